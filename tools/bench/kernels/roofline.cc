#include "tools/bench/kernels/roofline.h"

#include <algorithm>

namespace orrery {
namespace {

double Seconds(double amount, double per_second) {
  return per_second > 0.0 ? amount / per_second : 0.0;
}

}  // namespace

std::string_view BoundName(Bound bound) { return bound == Bound::kMemory ? "memory" : "compute"; }

Bound BindingCeiling(const Work& work, const Ceilings& ceilings) {
  return Seconds(work.flops, ceilings.flops_per_s) > Seconds(work.bytes, ceilings.bytes_per_s)
             ? Bound::kCompute
             : Bound::kMemory;
}

double LeastSeconds(const Work& work, const Ceilings& ceilings) {
  return std::max(Seconds(work.flops, ceilings.flops_per_s),
                  Seconds(work.bytes, ceilings.bytes_per_s));
}

}  // namespace orrery
