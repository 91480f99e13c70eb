// `orrery bench kernels`: how fast the CPU kernels are beside what the machine could do, and beside oneDNN. List
// kKernelsFlags among the flag files of the command.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_KERNELS_COMMAND_H_
#define ORRERY_TOOLS_BENCH_KERNELS_KERNELS_COMMAND_H_

#include <string>

#include "absl/flags/declare.h"

ABSL_DECLARE_FLAG(std::string, preset);  // of bench model too

namespace orrery {

inline constexpr char kKernelsFlags[] = "tools/bench/kernels/kernels_command.cc";

// The exit code.
int RunBenchKernels();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_KERNELS_COMMAND_H_
