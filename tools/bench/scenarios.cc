#include "tools/bench/scenarios.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tools/bench/report.h"

namespace orrery {

const std::vector<Scenario>& Scenarios() {
  static const auto& scenarios = *new std::vector<Scenario>{
      {"batch", "many streams against one", RunBatch},
      {"stall", "running streams while long prompts arrive", RunStall},
      {"tenants", "a small tenant beside one that floods the cluster", RunTenants},
      {"prefix", "prompts whose prefix was seen before", RunPrefix},
      {"disconnect", "clients that go away at random moments", RunDisconnect},
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
