// orrery up: a cluster in the foreground, until Ctrl-C.
#ifndef ORRERY_TOOLS_UP_COMMAND_H_
#define ORRERY_TOOLS_UP_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

int RunUp(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_UP_COMMAND_H_
