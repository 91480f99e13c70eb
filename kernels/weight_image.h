// How a weight lies in memory, which is also how it lies in a file: a header, then what the
// implementation makes of the values.
//
//   | header, 64 bytes | scales, padded to 64 | panels |
//
// A store of such images (checkpoint/store) starts without converting anything:
//
//   ASSIGN_OR_RETURN(const WeightImage image, weight->Image());   // of MakeWeight, once
//   kernels.MapWeight(image)                                      // ever after
//
// What implementations share; callers say Weight::Image and MapWeight. The header says who wrote the
// image; what follows is the implementation's own.
#ifndef ORRERY_KERNELS_WEIGHT_IMAGE_H_
#define ORRERY_KERNELS_WEIGHT_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

// Images, and what is inside them, start on such a border.
inline constexpr size_t kImageAlignment = 64;

constexpr size_t AlignedToImage(size_t num_bytes) {
  return (num_bytes + kImageAlignment - 1) / kImageAlignment * kImageAlignment;
}

struct WeightImageHeader {
  char layout[16] =
      {};  // the implementation's name for what follows, with a version; zeros behind it
  int32_t num_outputs = 0;
  int32_t num_inputs = 0;
  int32_t product_format = 0;  // ProductFormat
  int32_t panel_format = 0;    // the implementation's
  int32_t scale_block_outputs = 0;
  int32_t scale_block_inputs = 0;
  int32_t reserved[6] = {};  // 0
};
static_assert(sizeof(WeightImageHeader) == kImageAlignment);

// The header of an image of this layout. INVALID_ARGUMENT for bytes that are none: of another layout
// or version, off their border, or with sizes that cannot be. Panel format and scale blocks are left
// to the caller.
absl::StatusOr<WeightImageHeader> ReadImageHeader(absl::Span<const std::byte> image,
                                                  std::string_view layout);
// The opposite, for the caller to fill in the rest. layout: at most 15 characters.
WeightImageHeader MakeImageHeader(std::string_view layout, int num_outputs, int num_inputs);

}  // namespace orrery

#endif  // ORRERY_KERNELS_WEIGHT_IMAGE_H_
