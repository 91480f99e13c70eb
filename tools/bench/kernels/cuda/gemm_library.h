// A library of matrix products on a GPU: the peer of our kernels there, and what says how fast the GPU multiplies at
// best. cuBLASLt is one (cublaslt.h); a test may have its own.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_CUDA_GEMM_LIBRARY_H_
#define ORRERY_TOOLS_BENCH_KERNELS_CUDA_GEMM_LIBRARY_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "device/cuda/cuda_stream.h"
#include "device/device.h"
#include "tools/bench/kernels/bench_target.h"

namespace orrery {

class GemmLibrary {
 public:
  virtual ~GemmLibrary() = default;
  virtual std::string name() const = 0;     // "cuBLASLt"
  virtual std::string version() const = 0;  // "cuBLASLt 13.1.0"
  // Products of noise, queued on the stream, which must outlive them, as the library must. UNIMPLEMENTED for operands
  // that it does not multiply on this GPU.
  virtual absl::StatusOr<std::unique_ptr<PeerProduct>> Make(const PeerProduct::Shape& shape,
                                                            Device& device, CudaStream& stream) = 0;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_CUDA_GEMM_LIBRARY_H_
