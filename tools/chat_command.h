// orrery chat: a conversation with a running cluster, line by line.
#ifndef ORRERY_TOOLS_CHAT_COMMAND_H_
#define ORRERY_TOOLS_CHAT_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

int RunChat(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAT_COMMAND_H_
