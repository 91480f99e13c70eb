// Processor time and memory of this process and of the processes that it started, from getrusage
// and /proc.
//
//   const UsageSnapshot before = TakeUsageSnapshot();
//   ...
//   UsageDelta delta = UsageBetween(before, TakeUsageSnapshot());
//   delta.own_cores      // 0.12: 12 % of one core
//
// Children are named by their --name flag. Linux only; what cannot be read is left out.
#ifndef ORRERY_TOOLS_BENCH_PROCESS_USAGE_H_
#define ORRERY_TOOLS_BENCH_PROCESS_USAGE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace orrery {

struct ProcessUsage {
  double cpu_seconds = 0.0;
  int64_t rss_bytes = 0;
};

struct UsageSnapshot {
  absl::Time time;
  double own_cpu_seconds = 0.0;
  std::map<std::string, ProcessUsage> children;
};

UsageSnapshot TakeUsageSnapshot();

struct UsageDelta {
  double own_cores = 0.0;
  // Of children that were there both times.
  std::map<std::string, double> child_cores;
};

UsageDelta UsageBetween(const UsageSnapshot& before, const UsageSnapshot& after);

// What a line of /proc/PID/stat says.
struct ProcStat {
  int parent = 0;
  int64_t cpu_ticks = 0;  // user and system
  int64_t rss_pages = 0;
};
std::optional<ProcStat> ParseProcStat(const std::string& line);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_PROCESS_USAGE_H_
