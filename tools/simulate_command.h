// `orrery simulate`: the cores of router, scheduler, placement and exchange through random schedules of faults,
// in virtual time (tests/simulation).
#ifndef ORRERY_TOOLS_SIMULATE_COMMAND_H_
#define ORRERY_TOOLS_SIMULATE_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

// Returns the exit code: 1 as well if a promise was broken.
int RunSimulate(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_SIMULATE_COMMAND_H_
