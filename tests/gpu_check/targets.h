// What the rows of a benchmark should come to on a Hopper GPU, beside what they did: a pure function.
//
//   for (const std::string& line : TargetLines(figures)) ...
//       "feed_forward/w8a8/256: 61.2% of compute, aim 60%: held"
//
// Aims are shares of measured ceilings, so that they hold on any GPU; they were set for one H200.
#ifndef ORRERY_TESTS_GPU_CHECK_TARGETS_H_
#define ORRERY_TESTS_GPU_CHECK_TARGETS_H_

#include <string>
#include <vector>

#include "tools/bench/kernels/kernel_figures.h"

namespace orrery {

// Of those rows that have an aim, in their order.
std::vector<std::string> TargetLines(const std::vector<KernelFigures>& figures);

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_TARGETS_H_
