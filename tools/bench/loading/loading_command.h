// `orrery bench loading`.
#ifndef ORRERY_TOOLS_BENCH_LOADING_LOADING_COMMAND_H_
#define ORRERY_TOOLS_BENCH_LOADING_LOADING_COMMAND_H_

namespace orrery {

// 0 if the target is met.
int RunBenchLoading();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_LOADING_LOADING_COMMAND_H_
