#include "tools/bench/scenarios.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tools/bench/report.h"

namespace orrery {

const std::vector<Scenario>& Scenarios() {
  static const auto& scenarios = *new std::vector<Scenario>{
      {.name = "batch", .summary = "many streams against one", .run = RunBatch},
      {.name = "stall", .summary = "running streams while long prompts arrive", .run = RunStall},
      {.name = "tenants",
       .summary = "a small tenant beside one that floods the cluster",
       .run = RunTenants},
      {.name = "prefix",
       .summary = "prompts whose prefix was seen before",
       .run = RunPrefix,
       .takes_concurrency = false,
       .takes_duration = false},
      {.name = "overload",
       .summary = "requests with a deadline, four and eight times more than can be answered",
       .run = RunOverload},
      {.name = "disconnect",
       .summary = "clients that go away at random moments",
       .run = RunDisconnect,
       .takes_duration = false},
  };
  return scenarios;
}

absl::StatusOr<Scenario> FindScenario(const std::string& name) {
  std::vector<std::string> names;
  for (const Scenario& scenario : Scenarios()) {
    if (scenario.name == name) return scenario;
    names.push_back(scenario.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--scenario is \"", name, "\", must be one of ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<const PhaseResult*> RunAndShow(ServeBench& bench, Phase phase) {
  if (bench.result().phases.empty()) bench.options().out->Print(PhaseLineLegend());
  ASSIGN_OR_RETURN(const PhaseResult* const result, bench.Run(std::move(phase)));
  bench.options().out->Print(PhaseLine(*result));
  return result;
}

}  // namespace orrery
