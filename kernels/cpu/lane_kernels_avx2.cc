#include "kernels/cpu/lane_kernels-inl.h"
#include "kernels/cpu/lanes_avx2.h"

namespace orrery {

const LaneKernels& Avx2LaneKernels() {
  static constexpr LaneKernels kTable = MakeLaneKernels<isa_avx2::Lanes>();
  return kTable;
}

}  // namespace orrery
