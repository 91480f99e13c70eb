// A scenario's faults one after the other, on a cluster of real processes under load.
//
//   ASSIGN_OR_RETURN(ChaosReport report, RunChaos({.scenario = scenario, .num_faults = 10, ...}));
//   Print(ReportText(report));
//   return report.all_well() && report.is_in_time() ? 0 : 1;
#ifndef ORRERY_TOOLS_CHAOS_CHAOS_RUN_H_
#define ORRERY_TOOLS_CHAOS_CHAOS_RUN_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/chaos/growth.h"
#include "tools/chaos/scenarios.h"
#include "tools/chaos/streams.h"

namespace orrery {

struct ChaosOptions {
  ChaosScenario scenario;
  int num_faults = 10;
  // Its routers, ranks and shards are the scenario's.
  Victim::Options victim;
  // For scenarios that run for long: how often memory is looked at, and from which age of a process on. Caches and
  // allocators fill for some eight minutes even without any fault, by more than a leak that would matter.
  absl::Duration look_every = absl::Seconds(5);
  absl::Duration warm_up = absl::Minutes(10);
  // After each fault, what was done and the longest pause that a stream had. May be empty.
  std::function<void(int fault, const std::string& what, absl::Duration pause)> on_fault;
};

struct ChaosReport {
  std::string scenario;
  uint64_t seed = 0;
  StreamsReport streams;
  // Answers that differ are what it measures, not what it must not have.
  bool may_differ = false;
  // Answers whose end is not exactly one line of the routers' logs.
  int64_t num_not_logged_once = 0;
  std::vector<absl::Duration> pauses;  // the longest of each fault
  // How long a pause may be; no limit where a shard that fails may be the only holder of its experts.
  absl::Duration pause_limit = absl::InfiniteDuration();
  // See Victim::NoteSlowdown; and how much their median may be.
  std::vector<double> slowdowns;
  double slowdown_limit = std::numeric_limits<double>::infinity();
  // Whether the scenario runs for long. By member; those that lived longer than the warm-up.
  bool looks_at_growth = false;
  std::map<std::string, Growth::Slope> growth;

  bool all_well() const {
    return streams.num_errors == 0 && (may_differ || streams.num_differing == 0) &&
           num_not_logged_once == 0 && is_flat();
  }
  // Pauses above the limit, and whether streams got along as well as they should. Not part of all_well: a test's
  // machine may be busy.
  int num_long_pauses() const;
  double median_slowdown() const;  // 0 if there is none
  bool is_in_time() const { return num_long_pauses() == 0 && median_slowdown() <= slowdown_limit; }
  // Nobody grows by more than 1 MiB or one descriptor an hour, of those that were seen for long enough to tell.
  bool is_flat() const;
};

// An error means that the cluster did not come back, or could not be harmed; answers that went wrong are part
// of the report.
absl::StatusOr<ChaosReport> RunChaos(const ChaosOptions& options);

// For people, several lines.
std::string ReportText(const ChaosReport& report);
std::string ReportJson(const ChaosReport& report);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_CHAOS_RUN_H_
