// orrery check golden DIR...: compares golden folders with what this build computes.
// orrery check invariance: compares the answers of one model under many settings, bit for bit.
#ifndef ORRERY_TOOLS_CHECK_COMMAND_H_
#define ORRERY_TOOLS_CHECK_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

// Exit code 0 when everything held, 1 when something did not or could not be run, 2 for a wrong
// call.
int RunCheck(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_COMMAND_H_
