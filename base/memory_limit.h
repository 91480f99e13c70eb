// How much memory the system lets this process have.
//
//   std::optional<int64_t> limit = ControlGroupMemory();    // of its container, say; nullopt: none
//   int64_t bytes = MachineMemory();
//
// Versions 1 and 2 of control groups: the group of the process and all above it, as far as it can see them;
// the least counts. Files that cannot be read are no limit.
//
// Threads: any. `root` stands before every path; for tests.
#ifndef ORRERY_BASE_MEMORY_LIMIT_H_
#define ORRERY_BASE_MEMORY_LIMIT_H_

#include <cstdint>
#include <optional>
#include <string>

namespace orrery {

std::optional<int64_t> ControlGroupMemory(const std::string& root = "");

// 0 if the system does not say.
int64_t MachineMemory(const std::string& root = "");

}  // namespace orrery

#endif  // ORRERY_BASE_MEMORY_LIMIT_H_
