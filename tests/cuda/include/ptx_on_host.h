// The PTX instructions of kernels/cuda/ptx.h, in plain C++: operands lie in the lanes of a warp exactly
// as the PTX manual draws them (PTX ISA 9.0, "Matrix Fragments for mma.m16n8k16"), so that a kernel which
// takes the wrong element gets the wrong result here too.
//
//   lane = 4 * g + t, g = 0..7, t = 0..3; each register holds two bf16, the lower index in its low half
//   A [16, 16]  a[0]: (g, 2t) (g, 2t+1)     a[1]: row g+8     a[2]: columns + 8     a[3]: both
//   B [16, 8]   b[0]: (2t, g) (2t+1, g)     b[1]: rows + 8
//   C [16, 8]   c[0]: (g, 2t)  c[1]: (g, 2t+1)  c[2], c[3]: row g+8
//
// What a GPU does not promise is the order in which one instruction sums its 16 products: here they are
// added in ascending order in f32.
#ifndef ORRERY_TESTS_CUDA_INCLUDE_PTX_ON_HOST_H_
#define ORRERY_TESTS_CUDA_INCLUDE_PTX_ON_HOST_H_

#include <cuda_runtime.h>

#include <cstdint>

namespace cuda_on_host {

// What the lanes of a warp bring to mma.sync, and find in c afterwards.
struct MmaOperands {
  uint32_t a[4];
  uint32_t b[2];
  float c[4];
};
void MultiplyInWarp(std::byte* operands);  // 32 MmaOperands, kMaxLeft apart

}  // namespace cuda_on_host

namespace orrery::ptx {

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32, with the sums in place.
inline void MmaBf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  using namespace cuda_on_host;
  MmaOperands mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {c[0], c[1], c[2], c[3]}};
  static_assert(sizeof(mine) <= kMaxLeft);
  const std::byte* const all = MeetInWarp("mma.sync", &mine, sizeof(mine), MultiplyInWarp);
  std::memcpy(&mine, all + Lane() * kMaxLeft, sizeof(mine));
  for (int i = 0; i < 4; ++i) c[i] = mine.c[i];
}

inline std::byte* DynamicSharedMemory() { return cuda_on_host::DynamicSharedMemory(); }

}  // namespace orrery::ptx

#endif  // ORRERY_TESTS_CUDA_INCLUDE_PTX_ON_HOST_H_
