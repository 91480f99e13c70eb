// A GPU: time between two events on the stream, a large copy on the device, large products of a GEMM library, which is the
// peer as well.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<BenchTarget> target, MakeCudaTarget({.gemms = OpenCublasLt()}));
//
// Calls are queued one behind the other, so that a launch hides behind the one before it as it does in a step.
// Errors: UNAVAILABLE "no CUDA device: ...", FAILED_PRECONDITION for a GPU that the kernels do not know, RESOURCE_EXHAUSTED
// without memory.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_CUDA_CUDA_TARGET_H_
#define ORRERY_TOOLS_BENCH_KERNELS_CUDA_CUDA_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"
#include "tools/bench/kernels/bench_target.h"
#include "tools/bench/kernels/cuda/gemm_library.h"

namespace orrery {

struct CudaTargetOptions {
  int device_index = 0;
  int64_t working_set_bytes = 0;  // 0: three times the L2
  // Or why there is none: then there is no peer and no compute ceiling, and note() says so.
  absl::StatusOr<std::unique_ptr<GemmLibrary>> gemms = absl::UnavailableError("not asked for");
  // Of the ceilings: far more than an L2 holds; far more than fills a GPU (8,192^3 products take 1.4 ms at 800 TFLOP/s).
  size_t copy_bytes = size_t{512} << 20;
  int gemm_size = 8192;
};

absl::StatusOr<std::unique_ptr<BenchTarget>> MakeCudaTarget(CudaTargetOptions options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_CUDA_CUDA_TARGET_H_
