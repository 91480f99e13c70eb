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
  // Heap and stacks: resident, and of no file.
  int64_t anonymous_bytes = 0;
  int pid = 0;
  int64_t swapped_bytes = 0;
  int num_descriptors = 0;
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

// Bytes by which each child has grown that was there both times.
std::map<std::string, int64_t> GrowthBetween(const UsageSnapshot& before,
                                             const UsageSnapshot& after);

// What a line of /proc/PID/stat says.
struct ProcStat {
  int parent = 0;
  int64_t cpu_ticks = 0;  // user and system
};
std::optional<ProcStat> ParseProcStat(const std::string& line);

// Of /proc/PID/smaps_rollup, which is exact; what stat and status say lags behind by up to 64 pages
// a thread (proc(5)). field: "Anonymous" or "Swap". 0 if it does not say.
int64_t ParseRollupBytes(const std::string& smaps_rollup, const std::string& field);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_PROCESS_USAGE_H_
