// orrery bench serve: puts load on a cluster and measures what comes back.
// orrery bench step: takes one decoding step apart.
#ifndef ORRERY_TOOLS_BENCH_COMMAND_H_
#define ORRERY_TOOLS_BENCH_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

// Exit code 0 if every target held, 1 if one was missed or something failed, 2 for wrong flags.
int RunBench(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_COMMAND_H_
