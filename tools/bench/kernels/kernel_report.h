// A run of `orrery bench kernels` as people read it, and as JSON.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_KERNEL_REPORT_H_
#define ORRERY_TOOLS_BENCH_KERNELS_KERNEL_REPORT_H_

#include <string>

#include "tools/bench/kernels/kernel_bench.h"

namespace orrery {

// Command, machine, ceilings so far; the head of the table.
std::string KernelHeadText(const KernelBenchResult& result);
// One row of it.
std::string KernelRowText(const KernelFigures& figures);
// What stands below: ceilings of the whole run, remarks, definitions.
std::string KernelEndText(const KernelBenchResult& result);

std::string KernelJson(const KernelBenchResult& result);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_KERNEL_REPORT_H_
