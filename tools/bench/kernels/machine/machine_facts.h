// What this machine says about itself, and how much memory a measurement has to go through so that nothing is
// found in a cache.
//
//   const MachineFacts facts = ReadMachineFacts("/");
//   int64_t bytes = WorkingSetBytes(/*wish=*/0, facts);
//
// A virtual machine may report a cache that it shares with strangers, or none: hence the wish.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_FACTS_H_
#define ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_FACTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace orrery {

struct MachineFacts {
  std::string processor;
  int num_cores = 0;
  int64_t last_level_cache_bytes = 0;  // that one core can use; 0: unknown
  int64_t available_memory_bytes = 0;  // 0: unknown
  double load_average = 0.0;           // of the last minute: others measure and build too
};

// Of the file system under root: /proc/cpuinfo, /proc/meminfo, /proc/loadavg, /sys/devices/system/cpu/cpu0/cache.
MachineFacts ReadMachineFacts(const std::string& root);

// "32768K", "480M".
std::optional<int64_t> ParseCacheSize(std::string_view text);

// The wish, or without one (0) three times the last-level cache, at least 64 MiB. Never more than an eighth of the
// memory that is free, because ours, the peer's and the buffer of the ceiling stand beside each other.
int64_t WorkingSetBytes(int64_t wish, const MachineFacts& facts);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_MACHINE_MACHINE_FACTS_H_
