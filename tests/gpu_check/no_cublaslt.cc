// The stand-in for a GPU has no cuBLASLt.
#include "tools/bench/kernels/cuda/cublaslt.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<GemmLibrary>> OpenCublasLt() {
  return absl::UnavailableError("the stand-in has no cuBLASLt");
}

}  // namespace orrery
