// orrery demo: a whole cluster on this machine, one question, one answer.
#ifndef ORRERY_TOOLS_DEMO_COMMAND_H_
#define ORRERY_TOOLS_DEMO_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

int RunDemo(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_DEMO_COMMAND_H_
