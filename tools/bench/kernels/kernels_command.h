// `orrery bench kernels`: how fast kernels are beside what their processor could do, and beside a peer: those of the CPU
// and oneDNN, or with --device=cuda those of a GPU and cuBLASLt. List
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
