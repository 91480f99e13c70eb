// Which processors this process may use, and keeping to some of them.
//
//   ASSIGN_OR_RETURN(const std::vector<int> cpus, ParseCpuList("0-7,16"));
//   RETURN_IF_ERROR(KeepToProcessors(cpus));     // before threads start and memory is touched
//
// Threads: KeepToProcessors concerns the calling thread and those that it starts afterwards.
#ifndef ORRERY_BASE_PROCESSORS_H_
#define ORRERY_BASE_PROCESSORS_H_

#include <string_view>
#include <vector>

#include "base/status.h"

namespace orrery {

// Numbers and ranges, as taskset and the kernel write them; ascending, each once. Empty for an empty
// text. INVALID_ARGUMENT, quoting the text, for anything else and for numbers above 4095.
absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text);

// At least 1: those that the system lets this process run on, or the quota of its control group
// (cgroup v2, cpu.max), rounded up, if that is less.
int NumUsableProcessors();

// Memory that is touched afterwards lies on their NUMA node, if they are of one. An empty list changes
// nothing. FAILED_PRECONDITION, naming those that there are, if this process may not use them all.
absl::Status KeepToProcessors(const std::vector<int>& cpus);

}  // namespace orrery

#endif  // ORRERY_BASE_PROCESSORS_H_
