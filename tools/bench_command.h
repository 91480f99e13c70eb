// orrery bench serve: puts load on a cluster and measures what comes back.
#ifndef ORRERY_TOOLS_BENCH_COMMAND_H_
#define ORRERY_TOOLS_BENCH_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

// Returns 1 also if a scenario missed a target.
int RunBench(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_COMMAND_H_
