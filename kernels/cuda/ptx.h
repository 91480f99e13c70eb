// What C++ has no words for: a few PTX instructions, and the block's dynamic shared memory. Compiled
// without nvcc, their model takes over (tests/cuda/include/ptx_on_host.h), which also draws how the operands
// of a product lie in the lanes of a warp. Everything is there from sm_80 on.
#ifndef ORRERY_KERNELS_CUDA_PTX_H_
#define ORRERY_KERNELS_CUDA_PTX_H_

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// Before a loop over an array that must stay in registers, where the compiler would not unroll it.
#define ORRERY_UNROLL _Pragma("unroll")
// Before one where the compiler would unroll more, and need registers that are not there.
#define ORRERY_UNROLL_4 _Pragma("unroll 4")

namespace orrery::ptx {

// c [16, 8] += a [16, 16] * b [16, 8]: bf16 products, f32 sums; all lanes of a warp together. From
// sm_80 on.
__device__ inline void MmaBf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four matrices [8, 8] of bf16 from shared memory, all lanes of a warp together: lane 8 i + r says where
// row r of matrix i lies, on a border of 16 bytes, and lane 4 g + t gets elements 2t, 2t+1 of row g of
// each; or, transposed, of column g.
__device__ inline void LoadMatrices(uint32_t (&to)[4], const std::byte* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ inline void LoadTransposed(uint32_t (&to)[4], const std::byte* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// Copies from global to shared memory while the thread goes on: 16 bytes past the L1 cache, or 8. A
// thread commits its copies in groups, and waits until all but the latest num_left groups are done;
// the copies of other threads, those threads wait for.
template <int num_bytes>
__device__ inline void CopyLater(std::byte* to, const std::byte* from) {
  static_assert(num_bytes == 8 || num_bytes == 16);
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (num_bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared), "l"(from) : "memory");
  }
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int num_left>
__device__ inline void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(num_left) : "memory");
}

__device__ inline std::byte* DynamicSharedMemory() {
  extern __shared__ __align__(1024) std::byte memory[];
  return memory;
}

}  // namespace orrery::ptx

#else
#include <ptx_on_host.h>
#endif

#endif  // ORRERY_KERNELS_CUDA_PTX_H_
