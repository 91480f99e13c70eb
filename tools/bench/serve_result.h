// All that a run of `orrery bench serve` found out, in memory and as JSON.
//
//   WriteTextFile(path, ToJson(result));
//   ASSIGN_OR_RETURN(FlatFigures old, ReadFigures(text));     // a file of an earlier run
//   Print(CompareText(old, *ReadFigures(ToJson(result))));
//
// The JSON holds the command, model, members, definitions, and per phase its parameters, figures in
// total and per load, processor time and counters.
// Errors: INVALID_ARGUMENT for a text that is not such a JSON.
#ifndef ORRERY_TOOLS_BENCH_SERVE_RESULT_H_
#define ORRERY_TOOLS_BENCH_SERVE_RESULT_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "proto/orrery.pb.h"
#include "tools/bench/counters.h"
#include "tools/bench/figures.h"
#include "tools/bench/phase.h"

namespace orrery {

struct PhaseResult {
  Phase phase;
  PhaseRecord record;
  std::vector<Figures> figures;  // of each load
  Figures total;
  double generator_cpu_cores = 0.0;
  // By member; empty if the cluster is not ours.
  std::map<std::string, double> cluster_cpu_cores;
  Counters counters;
};

// A number that a scenario derives from its phases.
struct Finding {
  std::string what;
  double value = 0.0;
  std::string target;  // "at least 6"; empty if there is none
  bool held = true;
};

struct ServeResult {
  std::string command;
  uint64_t seed = 0;
  v1::ModelInfo model;
  std::vector<v1::MemberStatus> members;
  // A deque, so that phases stay where they are.
  std::deque<PhaseResult> phases;
  std::vector<Finding> findings;

  bool held() const;
};

std::string ToJson(const ServeResult& result);

// Every figure of such a JSON: "phase / tenant / ttft_ms.p99".
using FlatFigures = std::map<std::string, double>;
absl::StatusOr<FlatFigures> ReadFigures(const std::string& json);

// One line per figure that both have: old, new, old / new.
std::string CompareText(const FlatFigures& old_figures, const FlatFigures& new_figures);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SERVE_RESULT_H_
