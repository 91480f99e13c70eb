// Where everything lies in a row encoded as fp8. Source of the arithmetic: DeepSeek-V3
// inference/kernel.py.
//
//   byte 0              width    padded to 4
//   [code 0 .. code w-1][0 0 0]  [scale 0][scale 1] ... [scale ceil(w/128)-1]
//
//   value i = code i * scale i/128;   scale = max(largest |value| of its 128, 1e-4) / 448
//
// The last group is short when width is no multiple of 128.
#ifndef ORRERY_KERNELS_FP8_ROW_LAYOUT_H_
#define ORRERY_KERNELS_FP8_ROW_LAYOUT_H_

#include <cstddef>

namespace orrery {

inline constexpr int kFp8GroupSize = 128;
inline constexpr float kFp8Max = 448.0f;  // largest e4m3 value
inline constexpr float kFp8SmallestGroupMax =
    1e-4f;  // keeps the scale of a zero group from being zero

class Fp8RowLayout {
 public:
  explicit constexpr Fp8RowLayout(int width) : width_(width) {}

  constexpr int num_groups() const { return (width_ + kFp8GroupSize - 1) / kFp8GroupSize; }
  constexpr int group_begin(int group) const { return group * kFp8GroupSize; }
  constexpr int group_end(int group) const {
    const int end = (group + 1) * kFp8GroupSize;
    return end < width_ ? end : width_;
  }
  constexpr size_t scale_offset(int group) const {
    return (static_cast<size_t>(width_) + 3) / 4 * 4 + group * sizeof(float);
  }
  constexpr size_t row_bytes() const { return scale_offset(num_groups()); }

 private:
  int width_;
};

static_assert(Fp8RowLayout(7168).row_bytes() == 7168 + 56 * 4);
static_assert(Fp8RowLayout(1).row_bytes() == 4 + 4);
static_assert(Fp8RowLayout(129).scale_offset(0) == 132 && Fp8RowLayout(129).num_groups() == 2);

}  // namespace orrery

#endif  // ORRERY_KERNELS_FP8_ROW_LAYOUT_H_
