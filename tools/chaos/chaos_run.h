// A scenario's faults one after the other, on a cluster of real processes under load.
//
//   ASSIGN_OR_RETURN(ChaosReport report, RunChaos({.scenario = scenario, .num_faults = 10, ...}));
//   Print(ReportText(report));
//   return report.streams.all_well() ? 0 : 1;
#ifndef ORRERY_TOOLS_CHAOS_CHAOS_RUN_H_
#define ORRERY_TOOLS_CHAOS_CHAOS_RUN_H_

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/chaos/scenarios.h"
#include "tools/chaos/streams.h"

namespace orrery {

struct ChaosOptions {
  ChaosScenario scenario;
  int num_faults = 10;
  // Its routers, ranks and shards are the scenario's.
  Victim::Options victim;
  // After each fault, what was done and the longest pause that a stream had. May be empty.
  std::function<void(int fault, const std::string& what, absl::Duration pause)> on_fault;
};

struct ChaosReport {
  std::string scenario;
  uint64_t seed = 0;
  StreamsReport streams;
  std::vector<absl::Duration> pauses;  // the longest of each fault
};

// An error means that the cluster did not come back, or could not be harmed; answers that went wrong are part
// of the report.
absl::StatusOr<ChaosReport> RunChaos(const ChaosOptions& options);

// For people, several lines.
std::string ReportText(const ChaosReport& report);
std::string ReportJson(const ChaosReport& report);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_CHAOS_RUN_H_
