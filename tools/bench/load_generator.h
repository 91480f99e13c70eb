// Sends a phase's requests to a router and notes when what came back.
//
//   LoadGenerator generator({.address = "127.0.0.1:7400", .token_pool = ids});
//   ASSIGN_OR_RETURN(PhaseRecord record, generator.Run(phase, should_stop));
//
// One thread drives all streams over one gRPC completion queue, so that hundreds of them cost
// little on a machine that also runs the cluster; a token's time is taken when its message leaves
// the queue. Every load has a connection of its own, as tenants have.
//
// A request that fails is part of the record. Errors of Run: UNAVAILABLE (nobody listens at the
// address), CANCELLED (`should_stop` said so). Either way no call is left open.
// Threads: one caller.
#ifndef ORRERY_TOOLS_BENCH_LOAD_GENERATOR_H_
#define ORRERY_TOOLS_BENCH_LOAD_GENERATOR_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "proto/orrery.pb.h"
#include "rpc/credentials.h"
#include "tools/bench/phase.h"

namespace orrery {

class LoadGenerator {
 public:
  struct Options {
    std::string address;
    TlsFiles tls;
    // What all requests have in common: model, temperature and the like.
    v1::GenerateRequest common;
    // Ids that prompts are made of; not empty.
    std::vector<int32_t> token_pool;
    // Deadline of a request.
    absl::Duration timeout = absl::Minutes(10);
  };

  explicit LoadGenerator(Options options) : options_(std::move(options)) {}

  // The loads must have passed CheckLoad. `should_stop` may be empty; it is asked about ten times a
  // second.
  absl::StatusOr<PhaseRecord> Run(const Phase& phase, const std::function<bool()>& should_stop);

 private:
  const Options options_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_LOAD_GENERATOR_H_
