// What the kernels of attention are told: AttendArgs with everything in device memory, in an array of the
// device. A block of threads finds its job by first_block.
#ifndef ORRERY_KERNELS_CUDA_ATTENTION_JOBS_H_
#define ORRERY_KERNELS_CUDA_ATTENTION_JOBS_H_

#include <cstddef>
#include <cstdint>

#include "base/dtypes.h"
#include "base/matrix.h"
#include "kernels/kernels.h"

namespace orrery {

// A row's positions are summed span by span; spans are anchored at position 0. Of the bits, so a constant:
// a shorter one spreads a lone sequence over more multiprocessors, a longer one leaves less to be combined.
// For 128 heads of 512 values a span of a row leaves 264 KB, and its 1,024 cache rows of 576 bf16 have
// 1,180 KB.
inline constexpr int kSpanTokens = 16 * kKvBlockTokens;

// What a span leaves of each head, where the row has several: m, l, two words of padding, and the
// context, padded to whole FourFloats.
inline constexpr int kPartialHeader = 4;
constexpr int64_t PartialFloats(int value_dim) {
  return kPartialHeader + (int64_t{value_dim} + 3) / 4 * 4;
}

struct AttendJob {
  int64_t first_block = 0;
  int place =
      -1;  // of its only row: where block_ids and first_position will be found; -1: they are here
  ConstMatrix q;  // [num_rows, num_heads * key_dim]
  Matrix out;     // [num_rows, num_heads * value_dim]
  int num_heads = 0;
  int key_dim = 0;
  int key_offset = 0;
  int value_dim = 0;
  int value_offset = 0;
  float scale = 1.0f;
  const std::byte* cache = nullptr;
  int row_width = 0;
  const int32_t* block_ids = nullptr;
  int begin_position = 0;
  int first_position = 0;
  int num_spans = 0;          // that the last row has; others may have fewer
  float* partials = nullptr;  // [num_rows, num_spans, num_heads, PartialFloats]; null for one span
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_ATTENTION_JOBS_H_
