// A weight in the layout that products read: tiles of 16 outputs, steps of 32 inputs, each step in the
// order of the lanes of a warp.
//
//   [tile][step][lane][half][8 codes]
//
//   lane = 4 g + t, g = 0..7, t = 0..3:   outputs 16 tile + g (half 0), 16 tile + g + 8 (half 1)
//                                         inputs  32 step + 8 t ... + 7
//
//   tile 0, step 0, lane 6 (g 1, t 2), bytes:  | w(1,16) w(1,17) ... w(1,23) | w(9,16) ... w(9,23) |
//
// So a lane loads what it multiplies in one piece, 16 bytes of fp8 or int8, and a warp a step of a tile in
// 512 bytes on end. A step is two instructions mma.m16n8k16: of a lane's 8 inputs the first four are its
// columns 2t, 2t+1, 2t+8, 2t+9 of the first, the others of the second (which input stands in which
// column is free, as long as the rows that are multiplied agree: their 8 inputs are one piece of memory too).
//
//   kF32, kBf16    as they are            kFp8   e4m3 codes
//   kInt8, kInt4   two's complement; of two int4 codes the first in the low half of the byte
//
// kFp8Swizzled has the order of wgmma: [tile of 64 outputs][128 inputs][swizzled: swizzle.h], so that each 8 KiB are
// copied as they lie and multiplied as they lie. It is for ProductFormat::kFp8 on sm_90a.
//
// Outputs and inputs are padded to 32, or 128, with zeros. Scales as in kernels/cpu/packed_weight.h: fp8 those it
// came with, f32 [output blocks][input blocks]; int8 and int4 bf16 [tile][input block][16 outputs]; else
// none. The whole is its image (kernels/weight_image.h): header, scales, codes, all of it on the device.
#ifndef ORRERY_KERNELS_CUDA_TILED_WEIGHT_H_
#define ORRERY_KERNELS_CUDA_TILED_WEIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "device/device.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/matmul_jobs.h"
#include "kernels/cuda/swizzle.h"
#include "kernels/kernels.h"
#include "kernels/weight_image.h"

namespace orrery {

// Indices of codes.
class TileLayout {
 public:
  constexpr TileLayout(int num_outputs, int num_inputs)
      : num_tiles_((num_outputs + 31) / 32 * 2), num_steps_((num_inputs + 31) / 32) {}

  constexpr int num_tiles() const { return num_tiles_; }
  constexpr int num_steps() const { return num_steps_; }
  constexpr int padded_outputs() const { return num_tiles_ * kTileOutputs; }
  constexpr int padded_inputs() const { return num_steps_ * kStepInputs; }
  constexpr size_t num_codes() const {
    return static_cast<size_t>(padded_outputs()) * padded_inputs();
  }
  constexpr size_t Index(int output, int input) const {
    const int tile = output / kTileOutputs, half = output / 8 % 2, g = output % 8;
    const int step = input / kStepInputs, t = input / kLaneInputs % 4;
    const size_t lane = (static_cast<size_t>(tile) * num_steps_ + step) * 32 + 4 * g + t;
    return (lane * 2 + half) * kLaneInputs + input % kLaneInputs;
  }

 private:
  int num_tiles_;
  int num_steps_;
};

// The same of kFp8Swizzled. Two tiles are the least that a block of threads takes.
class SwizzledLayout {
 public:
  static constexpr int kTileOutputs = 64;
  static constexpr int kBlockInputs = kSlabBytes;
  static constexpr int kTileBytes = kTileOutputs * kSlabBytes;

  constexpr SwizzledLayout(int num_outputs, int num_inputs)
      : num_tiles_((num_outputs + 127) / 128 * 2),
        num_blocks_((num_inputs + kBlockInputs - 1) / kBlockInputs) {}

  constexpr int num_tiles() const { return num_tiles_; }
  constexpr int num_steps() const { return num_blocks_ * (kBlockInputs / kStepInputs); }
  constexpr size_t num_codes() const {
    return static_cast<size_t>(num_tiles_) * num_blocks_ * kTileBytes;
  }
  constexpr size_t Index(int output, int input) const {
    const size_t tile =
        static_cast<size_t>(output / kTileOutputs) * num_blocks_ + input / kBlockInputs;
    return tile * kTileBytes + SwizzledOffset(output % kTileOutputs, input % kBlockInputs);
  }

 private:
  int num_tiles_;
  int num_blocks_;
};

static_assert(SwizzledLayout(1, 129).num_codes() == 128 * 256);
static_assert(SwizzledLayout(128, 256).Index(65, 130) == 3 * 8192 + 128 + 16 + 2);

static_assert(TileLayout(17, 33).num_codes() == 32 * 64);
static_assert(TileLayout(32, 32).Index(0, 1) == 1 && TileLayout(32, 32).Index(8, 0) == 8);
static_assert(TileLayout(32, 32).Index(1, 16) == 6 * 16);
static_assert(TileLayout(32, 64).Index(0, 32) == 512 && TileLayout(32, 64).Index(16, 0) == 1024);

// Where things lie in an image, as its header says.
class TiledImage {
 public:
  static constexpr std::string_view kLayout = "cuda tiles 1";

  // INVALID_ARGUMENT for a code format that is none, and for scale blocks that do not go with it.
  static absl::StatusOr<TiledImage> Of(const WeightImageHeader& header);

  const WeightImageHeader& header() const { return header_; }
  CodeFormat format() const { return static_cast<CodeFormat>(header_.panel_format); }
  ProductFormat product_format() const {
    return static_cast<ProductFormat>(header_.product_format);
  }
  bool is_swizzled() const { return format() == CodeFormat::kFp8Swizzled; }
  int num_tiles() const { return is_swizzled() ? swizzled_.num_tiles() : tiles_.num_tiles(); }
  int num_steps() const { return is_swizzled() ? swizzled_.num_steps() : tiles_.num_steps(); }
  size_t Index(int output, int input) const {
    return is_swizzled() ? swizzled_.Index(output, input) : tiles_.Index(output, input);
  }
  int num_input_blocks() const;
  size_t scale_bytes() const;
  size_t code_bytes() const;
  static constexpr size_t kScalesOffset = sizeof(WeightImageHeader);
  size_t codes_offset() const { return kScalesOffset + AlignedToImage(scale_bytes()); }
  size_t num_bytes() const { return codes_offset() + code_bytes(); }

 private:
  explicit TiledImage(const WeightImageHeader& header)
      : header_(header),
        tiles_(header.num_outputs, header.num_inputs),
        swizzled_(header.num_outputs, header.num_inputs) {}

  WeightImageHeader header_;
  TileLayout tiles_;
  SwizzledLayout swizzled_;
};

class TiledWeight final : public Weight {
 public:
  // Bytes of the device that Make takes: the image. Data of the source is not looked at.
  static absl::StatusOr<size_t> ImageBytes(const WeightSource& source, ProductFormat format,
                                           WeightFormat held, Instructions instructions);
  // INVALID_ARGUMENT for scale blocks that are no multiple of [1, 32], for codes that are NaN, and for an image in
  // the order of other instructions; RESOURCE_EXHAUSTED without memory, on either side.
  static absl::StatusOr<std::unique_ptr<TiledWeight>> Make(const WeightSource& source,
                                                           ProductFormat format, WeightFormat held,
                                                           Instructions instructions,
                                                           Device& device);
  static absl::StatusOr<std::unique_ptr<TiledWeight>> Map(const WeightImage& image,
                                                          Instructions instructions,
                                                          Device& device);

  size_t num_bytes() const override { return parts_.scale_bytes() + parts_.code_bytes(); }
  absl::StatusOr<WeightImage> Image() const override;
  // As kernels see it.
  DeviceWeight on_device() const;

 private:
  static absl::StatusOr<std::unique_ptr<TiledWeight>> Upload(const TiledImage& parts,
                                                             const WeightImage& image,
                                                             Device& device);
  TiledWeight(const TiledImage& parts, Device* device, Buffer on_device)
      : Weight(parts.header().num_outputs, parts.header().num_inputs),
        parts_(parts),
        device_(device),
        on_device_(std::move(on_device)) {}

  TiledImage parts_;
  Device* device_;
  Buffer on_device_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_TILED_WEIGHT_H_
