// What CUDA C++ has no words for: one PTX instruction, and the block's dynamic shared memory. Compiled
// without nvcc, their model takes over (tests/cuda/include/ptx_on_host.h), which also draws how the operands
// of a product lie in the lanes of a warp.
#ifndef ORRERY_KERNELS_CUDA_PTX_H_
#define ORRERY_KERNELS_CUDA_PTX_H_

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace orrery::ptx {

// c [16, 8] += a [16, 16] * b [16, 8]: bf16 products, f32 sums; all lanes of a warp together. From
// sm_80 on.
__device__ inline void MmaBf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline std::byte* DynamicSharedMemory() {
  extern __shared__ __align__(128) std::byte memory[];
  return memory;
}

}  // namespace orrery::ptx

#else
#include <ptx_on_host.h>
#endif

#endif  // ORRERY_KERNELS_CUDA_PTX_H_
