// A cluster under measurement: runs phases of load against its router and collects the results.
//
//   ASSIGN_OR_RETURN(auto bench, ServeBench::Open({.client = &client, .out = &out}));
//   ASSIGN_OR_RETURN(const PhaseResult* result, bench->Run(phase));
//   bench->Judge("tokens/s at 32 over at 1", ratio, AtLeast(6.0));
//   WriteTextFile(path, ToJson(bench->result()));
//
// Before and after every phase the cluster is idle, as far as it is ours alone, so that phases do
// not touch each other and counters are exact.
// Errors: those of the client and of LoadGenerator::Run; INVALID_ARGUMENT for a load that does not
// fit the model.
// Threads: one owner.
#ifndef ORRERY_TOOLS_BENCH_SERVE_BENCH_H_
#define ORRERY_TOOLS_BENCH_SERVE_BENCH_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "client/orrery_client.h"
#include "tools/bench/load_generator.h"
#include "tools/bench/serve_result.h"
#include "tools/terminal.h"

namespace orrery {

// What a finding must be.
struct Target {
  enum class Kind { kNone, kAtLeast, kAtMost };
  Kind kind = Kind::kNone;
  double limit = 0.0;

  bool Holds(double value) const;
  std::string ToString() const;  // "at least 6"; empty for none
};
inline Target AtLeast(double limit) { return {Target::Kind::kAtLeast, limit}; }
inline Target AtMost(double limit) { return {Target::Kind::kAtMost, limit}; }

class ServeBench {
 public:
  struct Options {
    OrreryClient* client = nullptr;
    TlsFiles tls;
    // What all requests have in common.
    v1::GenerateRequest common;
    uint64_t seed = 0;
    absl::Duration timeout = absl::Minutes(10);
    Terminal* out = nullptr;
    // May be empty.
    std::function<bool()> should_stop;
    // For the record.
    std::string command;
  };

  // Asks for the model and makes the pool of ids for prompts. Pointers must outlive it.
  static absl::StatusOr<std::unique_ptr<ServeBench>> Open(Options options);

  // The phase's seed is chosen here, another for each; the result stays where it is.
  absl::StatusOr<const PhaseResult*> Run(Phase phase);

  // Adds a finding.
  void Judge(const std::string& what, double value, const Target& target = {});

  // Until nobody has been running or waiting for longer than a router's view is old. With the last
  // status, idle or not, when `patience` is over; CANCELLED if asked to stop.
  absl::StatusOr<v1::ClusterStatusResponse> Settle(absl::Duration patience);

  // Of a part of this run, a phase for instance: another for each, and of no other seed's run.
  uint64_t SeedOf(size_t part) const;

  const ServeResult& result() const { return result_; }
  const std::vector<int32_t>& token_pool() const { return token_pool_; }
  const Options& options() const { return options_; }

 private:
  explicit ServeBench(Options options) : options_(std::move(options)) {}
  absl::Status MakeTokenPool();
  void ShowProgress(const Phase& phase, absl::Duration elapsed);

  const Options options_;
  std::vector<int32_t> token_pool_;
  ServeResult result_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SERVE_BENCH_H_
