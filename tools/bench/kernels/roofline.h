// The roofline: the least time that a machine needs for some work, and which of its two ceilings says so.
//
//   const Work work = {.bytes = 4.3e6, .flops = 8.6e6 * rows};
//   LeastSeconds(work, {.bytes_per_s = 12e9, .flops_per_s = 80e9});
//
//   flops/s ^                 . compute ceiling
//           |        _________.
//           |      /
//           |    /   memory ceiling: bytes/s * flops/byte
//           +--/------------------> flops/byte
//
// Pure functions. (Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", 2009.)
#ifndef ORRERY_TOOLS_BENCH_KERNELS_ROOFLINE_H_
#define ORRERY_TOOLS_BENCH_KERNELS_ROOFLINE_H_

#include <string_view>

namespace orrery {

struct Work {
  double bytes = 0.0;  // that have to come from memory
  double flops = 0.0;  // products and additions; 0: not counted, so that memory is the ceiling
};

struct Ceilings {
  double bytes_per_s = 0.0;
  double flops_per_s = 0.0;
};

enum class Bound { kMemory, kCompute };
std::string_view BoundName(Bound bound);  // "memory", "compute"

// The ceiling that takes longer; memory if both take the same.
Bound BindingCeiling(const Work& work, const Ceilings& ceilings);
// 0 for work that is nothing; a ceiling that is 0 is not known and binds nothing.
double LeastSeconds(const Work& work, const Ceilings& ceilings);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_ROOFLINE_H_
