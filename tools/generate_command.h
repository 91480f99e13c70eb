// orrery generate: one answer from a running cluster, for people and for scripts.
#ifndef ORRERY_TOOLS_GENERATE_COMMAND_H_
#define ORRERY_TOOLS_GENERATE_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

int RunGenerate(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_GENERATE_COMMAND_H_
