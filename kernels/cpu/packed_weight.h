// A weight in the layout that Matmul streams: panels of 16 outputs, whose inputs lie one after
// another.
//
//   bf16:   [panel][input / 4][even, odd][16 outputs][2 inputs]
//
//     panel 0, inputs 0..3, even:  w(0,2) w(0,0) | w(1,2) w(1,0) | ... | w(15,2) w(15,0)  64 bytes
//     panel 0, inputs 0..3, odd:   w(0,3) w(0,1) | w(1,3) w(1,1) | ... | w(15,3) w(15,1)
//
//     (w(output, input).) A line is one AVX-512 register: two steps of the chain of even inputs, or
//     of the odd ones, the first in the high half. See operands-inl.h for why.
//
//   fp8 (e4m3), int8 (sign and magnitude):  both lines together are 64 bytes, in pieces of 8
//
//     panel 0, inputs 0..3:  even, outputs 0..3 | odd, outputs 0..3 | even, 4..7 | odd, 4..7 | ...
//
//   int4:   like bf16, each line in 16 bytes: of two codes (+ 8) the first in the low half
//   f32:    [panel][input][16 outputs]
//
// Outputs are padded to 16 and inputs to 32, with zeros. Every weight has scales, in f32 for blocks
// of outputs and inputs: those it came with as fp8, else one 1.0. Those of int8 and int4 are bf16, for
// each output and block of inputs: [panel][block][16 outputs].
// The whole lies in one piece of memory, its image (kernels/weight_image.h): header, scales, panels.
#ifndef ORRERY_KERNELS_CPU_PACKED_WEIGHT_H_
#define ORRERY_KERNELS_CPU_PACKED_WEIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/types/span.h"
#include "kernels/cpu/lane_kernels.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"
#include "kernels/weight_image.h"

namespace orrery {

// Indices into the panels, in elements.
class PanelLayout {
 public:
  constexpr PanelLayout(int num_outputs, int num_inputs)
      : num_panels_((num_outputs + kVectorLanes - 1) / kVectorLanes),
        padded_inputs_((num_inputs + kSumBlock - 1) / kSumBlock * kSumBlock) {}

  constexpr int padded_inputs() const { return padded_inputs_; }
  constexpr int padded_outputs() const { return num_panels_ * kVectorLanes; }
  constexpr size_t panel_stride() const {
    return static_cast<size_t>(padded_inputs_) * kVectorLanes;
  }
  constexpr size_t num_elements() const { return num_panels_ * panel_stride(); }
  constexpr size_t PairIndex(int output, int input) const {
    return PanelOffset(output) + static_cast<size_t>(input / 4 * 2 + input % 2) * 2 * kVectorLanes +
           output % kVectorLanes * 2 + (input % 4 < 2 ? 1 : 0);
  }
  // Of a byte where PairIndex has a bf16.
  constexpr size_t ByteIndex(int output, int input) const {
    const size_t index = PairIndex(output, input);
    const size_t line = index / 32 % 2, in_line = index % 32;
    return index / 64 * 64 + in_line / 8 * 16 + line * 8 + in_line % 8;
  }
  constexpr size_t F32Index(int output, int input) const {
    return PanelOffset(output) + static_cast<size_t>(input) * kVectorLanes + output % kVectorLanes;
  }

 private:
  constexpr size_t PanelOffset(int output) const { return output / kVectorLanes * panel_stride(); }

  int num_panels_;
  int padded_inputs_;
};

static_assert(PanelLayout(17, 33).num_elements() == 2 * 64 * 16);
static_assert(PanelLayout(32, 32).PairIndex(0, 0) == 1 && PanelLayout(32, 32).PairIndex(0, 2) == 0);
static_assert(PanelLayout(32, 32).PairIndex(1, 0) == 3);
static_assert(PanelLayout(32, 32).PairIndex(0, 1) == 33);
static_assert(PanelLayout(32, 32).PairIndex(0, 4) == 65);
static_assert(PanelLayout(32, 32).PairIndex(17, 2) == 512 + 2);
static_assert(PanelLayout(32, 32).F32Index(1, 2) == 33);
static_assert(PanelLayout(32, 32).ByteIndex(4, 2) == 16 &&
              PanelLayout(32, 32).ByteIndex(0, 1) == 9);

// Where things lie in an image, as its header says.
class PackedImage {
 public:
  static constexpr std::string_view kLayout = "x86 panels 1";

  // INVALID_ARGUMENT for a panel format that is none, and for scale blocks that do not go with it.
  static absl::StatusOr<PackedImage> Of(const WeightImageHeader& header);

  const WeightImageHeader& header() const { return header_; }
  PanelFormat format() const { return static_cast<PanelFormat>(header_.panel_format); }
  const PanelLayout& layout() const { return layout_; }
  // Of int8 and int4: bf16 [panels][scales_per_row()][16]. Else f32 [., scales_per_row()].
  bool has_output_scales() const;
  int scales_per_row() const;
  size_t scale_bytes() const;
  size_t panel_bytes() const;

  static constexpr size_t kScalesOffset = sizeof(WeightImageHeader);
  size_t panels_offset() const { return kScalesOffset + AlignedToImage(scale_bytes()); }
  size_t num_bytes() const { return panels_offset() + panel_bytes(); }

 private:
  explicit PackedImage(const WeightImageHeader& header)
      : header_(header), layout_(header.num_outputs, header.num_inputs) {}

  WeightImageHeader header_;
  PanelLayout layout_;
};

class PackedWeight final : public Weight {
 public:
  // INVALID_ARGUMENT for scale blocks that are no multiple of [16, 32] and for codes that are NaN;
  // RESOURCE_EXHAUSTED without memory.
  static absl::StatusOr<std::unique_ptr<PackedWeight>> Make(
      const WeightSource& source, ProductFormat format, WeightFormat held = WeightFormat::kStored);
  // How large its image will be. Errors of Make that follow from shapes and formats.
  static absl::StatusOr<size_t> ImageBytes(const WeightSource& source, ProductFormat format,
                                           WeightFormat held);
  // Views an image that Make made. INVALID_ARGUMENT for one that is not whole.
  static absl::StatusOr<std::unique_ptr<PackedWeight>> Map(const WeightImage& image);

  size_t num_bytes() const override { return parts_.scale_bytes() + parts_.panel_bytes(); }
  absl::StatusOr<WeightImage> Image() const override { return image_; }
  // Whether activations are rounded to bf16 before they meet this weight.
  bool rounds_activations() const {
    return parts_.header().product_format == static_cast<int32_t>(ProductFormat::kBf16);
  }
  int padded_inputs() const { return parts_.layout().padded_inputs(); }
  // Fills in what the weight decides.
  void Describe(MatmulJob& job) const;

 private:
  PackedWeight(const PackedImage& parts, WeightImage image)
      : Weight(parts.header().num_outputs, parts.header().num_inputs),
        parts_(parts),
        image_(std::move(image)) {}

  PackedImage parts_;
  WeightImage image_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_PACKED_WEIGHT_H_
