#include "kernels/cpu/cpu_kernels.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<Kernels>> MakeCpuKernels(CpuVariant variant) {
  ASSIGN_OR_RETURN(const LaneKernels* lanes, LaneKernelsFor(variant));
  return std::make_unique<CpuKernels>(lanes);
}

}  // namespace orrery
