#include "kernels/cpu/lane_kernels-inl.h"
#include "kernels/cpu/lanes_scalar.h"

namespace orrery {

const LaneKernels& ScalarLaneKernels() {
  static constexpr LaneKernels kTable = MakeLaneKernels<isa_scalar::Lanes>();
  return kTable;
}

}  // namespace orrery
