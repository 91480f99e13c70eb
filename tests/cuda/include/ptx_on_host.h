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
// added in ascending order in f32. Asynchronous copies happen as late as they may: when their thread
// waits for them, so that whoever reads too early reads what was there before.
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

// What a lane brings to ldmatrix, the address of a row, and what it finds there afterwards.
union MatrixRows {
  const std::byte* row;
  uint32_t loaded[4];
};
void LoadInWarp(std::byte* rows);            // 32 MatrixRows, kMaxLeft apart
void LoadTransposedInWarp(std::byte* rows);  // likewise

// Of the thread that runs now.
void CopyLater(std::byte* to, const std::byte* from, size_t num_bytes);
void CommitCopies();
void WaitForCopies(size_t num_left);

}  // namespace cuda_on_host

#define ORRERY_UNROLL
#define ORRERY_UNROLL_4

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

// ldmatrix.sync.aligned.m8n8.x4(.trans).shared.b16
inline void LoadMatrices(uint32_t (&to)[4], const std::byte* row) {
  const std::byte* const all =
      cuda_on_host::MeetInWarp("ldmatrix", &row, sizeof(row), cuda_on_host::LoadInWarp);
  std::memcpy(to, all + cuda_on_host::Lane() * cuda_on_host::kMaxLeft, sizeof(to));
}
inline void LoadTransposed(uint32_t (&to)[4], const std::byte* row) {
  const std::byte* const all = cuda_on_host::MeetInWarp("ldmatrix.trans", &row, sizeof(row),
                                                        cuda_on_host::LoadTransposedInWarp);
  std::memcpy(to, all + cuda_on_host::Lane() * cuda_on_host::kMaxLeft, sizeof(to));
}

// cp.async, cp.async.commit_group, cp.async.wait_group
template <int num_bytes>
void CopyLater(std::byte* to, const std::byte* from) {
  static_assert(num_bytes == 8 || num_bytes == 16);
  cuda_on_host::CopyLater(to, from, num_bytes);
}
inline void CommitCopies() { cuda_on_host::CommitCopies(); }
template <int num_left>
void WaitForCopies() {
  cuda_on_host::WaitForCopies(num_left);
}

inline std::byte* DynamicSharedMemory() { return cuda_on_host::DynamicSharedMemory(); }

}  // namespace orrery::ptx

#endif  // ORRERY_TESTS_CUDA_INCLUDE_PTX_ON_HOST_H_
