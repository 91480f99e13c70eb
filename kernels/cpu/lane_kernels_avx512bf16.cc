#include "kernels/cpu/lane_kernels-inl.h"
#include "kernels/cpu/lanes_avx512.h"

namespace orrery {

const LaneKernels& Avx512Bf16LaneKernels() {
  static constexpr LaneKernels kTable = MakeLaneKernels<isa_avx512::LanesOf<true>>();
  return kTable;
}

}  // namespace orrery
