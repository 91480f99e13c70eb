// cuBLASLt, loaded when it is asked for, so that a program runs where it is not installed.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<GemmLibrary> gemms, OpenCublasLt());
//
// Errors: UNAVAILABLE, naming what was looked for and what the loader says. It looks where the loader looks
// (LD_LIBRARY_PATH included) and in /usr/local/cuda.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_CUDA_CUBLASLT_H_
#define ORRERY_TOOLS_BENCH_KERNELS_CUDA_CUBLASLT_H_

#include <memory>

#include "base/status.h"
#include "tools/bench/kernels/cuda/gemm_library.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<GemmLibrary>> OpenCublasLt();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_CUDA_CUBLASLT_H_
