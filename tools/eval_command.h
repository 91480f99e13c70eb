// orrery eval FILE.jsonl: asks a cluster every problem of a file, and scores the answers.
#ifndef ORRERY_TOOLS_EVAL_COMMAND_H_
#define ORRERY_TOOLS_EVAL_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

int RunEval(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_EVAL_COMMAND_H_
