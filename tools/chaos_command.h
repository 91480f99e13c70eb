// `orrery chaos`: a cluster of real processes under load, harmed again and again; every answer is compared
// with the one of the undisturbed cluster (tools/chaos).
#ifndef ORRERY_TOOLS_CHAOS_COMMAND_H_
#define ORRERY_TOOLS_CHAOS_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

// Returns the exit code: 1 as well if an answer ended with an error or differs.
int RunChaosCommand(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_COMMAND_H_
