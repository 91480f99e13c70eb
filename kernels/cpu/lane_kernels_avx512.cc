#include "kernels/cpu/lane_kernels-inl.h"
#include "kernels/cpu/lanes_avx512.h"

namespace orrery {

const LaneKernels& Avx512LaneKernels() {
  static constexpr LaneKernels kTable = MakeLaneKernels<isa_avx512::LanesOf<false>>();
  return kTable;
}

}  // namespace orrery
