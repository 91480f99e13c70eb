// How matrices lie in shared memory for wgmma: rows of 128 bytes, whose eight pieces of 16 bytes change places
// from row to row, so that the same column of eight rows lies on all banks.
//
//   row r, piece i of 16 bytes   ->   r * 128 + (i ^ r % 8) * 16        a tile: on a border of 1,024 bytes
//
// A wider matrix is slabs of 128 bytes beside each other, each with all its rows. PTX ISA 9.0, 9.7.15.5.1.2
// "Shared Memory Matrix Layout", 128-byte swizzling; a matrix may be read along its rows or across them.
#ifndef ORRERY_KERNELS_CUDA_SWIZZLE_H_
#define ORRERY_KERNELS_CUDA_SWIZZLE_H_

#include <cstdint>

namespace orrery {

inline constexpr int kSlabBytes = 128;  // of a row
inline constexpr int kSwizzleRows = 8;  // after which places repeat
inline constexpr int kSwizzleBytes = kSwizzleRows * kSlabBytes;

// Of a byte of a slab.
constexpr int64_t SwizzledOffset(int64_t row, int byte) {
  return row * kSlabBytes + ((byte / 16 ^ static_cast<int>(row % kSwizzleRows)) * 16 + byte % 16);
}

static_assert(SwizzledOffset(0, 17) == 17 && SwizzledOffset(9, 0) == 9 * 128 + 16);
static_assert(SwizzledOffset(7, 127) == 7 * 128 + 15);

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_SWIZZLE_H_
