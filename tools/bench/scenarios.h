// Measurements of several phases in one run, whose ratios are compared with a target. Ratios within
// one run hold on any machine, which absolute figures do not.
//
//   const Scenario* scenario = FindScenario("batch");
//   RETURN_IF_ERROR(scenario->run(bench, options));
//   if (!bench.result().held()) ...
//
//   batch       output tokens per second of many streams over those of one
//   stall       pauses of running streams with long prompts arriving, over without
//   tenants     what a small tenant gets beside one that floods the cluster
//   prefix      time to first token of a prompt whose prefix was seen, over the first
//   overload    answers in time with four and eight times more arriving than can be answered, over without
//   disconnect  clients that go away at random moments: what stays behind
//
// Findings go into the bench; an error means that it could not be measured, not that a target was
// missed.
#ifndef ORRERY_TOOLS_BENCH_SCENARIOS_H_
#define ORRERY_TOOLS_BENCH_SCENARIOS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "tools/bench/serve_bench.h"

namespace orrery {

// Zero: as the scenario has it.
struct ScenarioOptions {
  int concurrency = 0;
  absl::Duration duration;  // of a phase
  int rounds = 0;
};

struct Scenario {
  std::string name;
  std::string summary;
  absl::Status (*run)(ServeBench& bench, const ScenarioOptions& options);
  // Beside rounds, which all take.
  bool takes_concurrency = true;
  bool takes_duration = true;
};

const std::vector<Scenario>& Scenarios();
// INVALID_ARGUMENT with the known ones.
absl::StatusOr<Scenario> FindScenario(const std::string& name);

absl::Status RunBatch(ServeBench& bench, const ScenarioOptions& options);
absl::Status RunStall(ServeBench& bench, const ScenarioOptions& options);
absl::Status RunTenants(ServeBench& bench, const ScenarioOptions& options);
absl::Status RunPrefix(ServeBench& bench, const ScenarioOptions& options);
absl::Status RunOverload(ServeBench& bench, const ScenarioOptions& options);
absl::Status RunDisconnect(ServeBench& bench, const ScenarioOptions& options);

// For scenarios: runs the phase and prints its line.
absl::StatusOr<const PhaseResult*> RunAndShow(ServeBench& bench, Phase phase);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SCENARIOS_H_
