// `orrery pack`: makes a model ready to read, once, so that its members start at the speed of the disk.
#ifndef ORRERY_TOOLS_PACK_COMMAND_H_
#define ORRERY_TOOLS_PACK_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

int RunPack(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_PACK_COMMAND_H_
