#include "kernels/cuda/tiled_weight.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/aligned_memory.h"
#include "base/check.h"
#include "kernels/fp8_row_layout.h"
#include "kernels/load_value.h"
#include "kernels/quantize.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Beyond it nothing is a scale block any more, and indices could overflow.
constexpr int kMaxScaleBlock = 1 << 28;

CodeFormat CodeFormatOf(DType stored, ProductFormat format, WeightFormat held,
                        Instructions instructions) {
  if (format == ProductFormat::kFp8) {
    return instructions == Instructions::kWgmma ? CodeFormat::kFp8Swizzled : CodeFormat::kFp8;
  }
  if (held == WeightFormat::kInt8) return CodeFormat::kInt8;
  if (held == WeightFormat::kInt4) return CodeFormat::kInt4;
  if (stored == DType::kFp8E4m3) return CodeFormat::kFp8;
  const bool is_bf16 = stored == DType::kBf16 || format == ProductFormat::kBf16;
  return is_bf16 ? CodeFormat::kBf16 : CodeFormat::kF32;
}

const QuantFormat* QuantFormatOfCodes(CodeFormat format) {
  if (format == CodeFormat::kInt8) return QuantFormatOf(WeightFormat::kInt8);
  if (format == CodeFormat::kInt4) return QuantFormatOf(WeightFormat::kInt4);
  return nullptr;
}

bool IsFp8(CodeFormat format) {
  return format == CodeFormat::kFp8 || format == CodeFormat::kFp8Swizzled;
}

int CeilDivide(int a, int b) { return a / b + (a % b != 0); }

WeightImageHeader HeaderOf(const WeightSource& source, ProductFormat format, WeightFormat held,
                           Instructions instructions) {
  const CodeFormat codes = CodeFormatOf(source.dtype, format, held, instructions);
  WeightImageHeader header =
      MakeImageHeader(TiledImage::kLayout, source.num_outputs, source.num_inputs);
  header.product_format = static_cast<int32_t>(format);
  header.panel_format = static_cast<int32_t>(codes);
  if (IsFp8(codes)) {
    header.scale_block_outputs = source.scale_block_outputs;
    header.scale_block_inputs = source.scale_block_inputs;
  } else if (const QuantFormat* const quant = QuantFormatOfCodes(codes)) {
    header.scale_block_outputs = 1;
    header.scale_block_inputs = quant->block_inputs;
  }
  return header;
}

// Denormals would be flushed where they are used; the tensor cores would not.
float Flushed(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : value;
}

absl::Status PackStored(const WeightSource& source, const TiledImage& parts, std::byte* codes) {
  for (int o = 0; o < source.num_outputs; ++o) {
    for (int i = 0; i < source.num_inputs; ++i) {
      const size_t at = parts.Index(o, i);
      const float value =
          LoadValue(source.dtype, source.data, static_cast<int64_t>(o) * source.num_inputs + i);
      if (parts.format() == CodeFormat::kF32) {
        reinterpret_cast<float*>(codes)[at] = value;
      } else if (parts.format() == CodeFormat::kBf16) {
        reinterpret_cast<uint16_t*>(codes)[at] = F32ToBf16(Flushed(value));
      } else if (value != value) {
        return absl::InvalidArgumentError(
            absl::StrCat("output ", o, ", input ", i, " is not a number"));
      } else {
        reinterpret_cast<uint8_t*>(codes)[at] = F32ToFp8E4m3(value);  // exact: it was one
      }
    }
  }
  return absl::OkStatus();
}

absl::Status PackQuantised(const WeightSource& source, const TiledImage& parts,
                           const QuantFormat& format, uint16_t* scales, uint8_t* codes) {
  QuantizedRow row;
  for (int o = 0; o < source.num_outputs; ++o) {
    RETURN_IF_ERROR(QuantizeOutput(source, o, format, row));
    for (int i = 0; i < source.num_inputs; ++i) {
      const size_t at = parts.Index(o, i);
      if (parts.format() == CodeFormat::kInt8) {
        codes[at] = static_cast<uint8_t>(row.codes[i]);
      } else {
        codes[at / 2] |= static_cast<uint8_t>((row.codes[i] & 15) << (at % 2 * 4));
      }
    }
    const int num_blocks = parts.num_input_blocks();
    for (int block = 0; block < num_blocks; ++block) {
      const size_t tile = o / kTileOutputs;
      scales[(tile * num_blocks + block) * kTileOutputs + o % kTileOutputs] = row.scales[block];
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TiledImage> TiledImage::Of(const WeightImageHeader& header) {
  const TiledImage parts(header);
  const int outputs = header.scale_block_outputs, inputs = header.scale_block_inputs;
  const bool is_exact = parts.product_format() == ProductFormat::kF32;
  const bool is_fp8_product = parts.product_format() == ProductFormat::kFp8;
  if (BitsOfCode(parts.format()) == 0 || (parts.format() == CodeFormat::kF32 && !is_exact) ||
      (is_fp8_product && !IsFp8(parts.format())) || (parts.is_swizzled() && !is_fp8_product)) {
    return absl::InvalidArgumentError(absl::StrCat("the image claims code format ",
                                                   header.panel_format, " and product format ",
                                                   header.product_format));
  }
  const auto is_block = [](int block, int multiple) {
    return block > 0 && block <= kMaxScaleBlock && block % multiple == 0;
  };
  if (is_fp8_product && inputs != kFp8GroupSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the image claims fp8 products and scale blocks of [", outputs, ", ", inputs, "]"));
  }
  if (IsFp8(parts.format())) {
    if (is_block(outputs, 1) && is_block(inputs, kStepInputs)) return parts;
    return absl::InvalidArgumentError(absl::StrCat("scale block of [", outputs, ", ", inputs,
                                                   "]: the cuda kernels need multiples of [1, ",
                                                   kStepInputs, "]"));
  }
  const QuantFormat* const quant = QuantFormatOfCodes(parts.format());
  if (outputs != (quant != nullptr ? 1 : 0) ||
      inputs != (quant != nullptr ? quant->block_inputs : 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image claims scale blocks of [", outputs, ", ", inputs, "]"));
  }
  return parts;
}

int TiledImage::num_input_blocks() const {
  const int block = header_.scale_block_inputs;
  return block == 0 ? 0 : CeilDivide(header_.num_inputs, block);
}

size_t TiledImage::scale_bytes() const {
  const size_t per_row = num_input_blocks();
  if (QuantFormatOfCodes(format()) != nullptr) {
    return tiles_.padded_outputs() * per_row * sizeof(uint16_t);
  }
  if (!IsFp8(format())) return 0;
  return CeilDivide(header_.num_outputs, header_.scale_block_outputs) * per_row * sizeof(float);
}

size_t TiledImage::code_bytes() const {
  return (is_swizzled() ? swizzled_.num_codes() : tiles_.num_codes()) * BitsOfCode(format()) / 8;
}

absl::StatusOr<size_t> TiledWeight::ImageBytes(const WeightSource& source, ProductFormat format,
                                               WeightFormat held, Instructions instructions) {
  ASSIGN_OR_RETURN(const TiledImage parts,
                   TiledImage::Of(HeaderOf(source, format, held, instructions)));
  return parts.num_bytes();
}

absl::StatusOr<std::unique_ptr<TiledWeight>> TiledWeight::Make(const WeightSource& source,
                                                               ProductFormat format,
                                                               WeightFormat held,
                                                               Instructions instructions,
                                                               Device& device) {
  RETURN_IF_ERROR(CheckWeightSource(source, format, held));
  ASSIGN_OR_RETURN(const TiledImage parts,
                   TiledImage::Of(HeaderOf(source, format, held, instructions)));
  AlignedArray<std::byte> memory = TryAllocateAligned<std::byte>(parts.num_bytes());
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("weight of shape [", source.num_outputs, ", ",
                                                     source.num_inputs, "]: cannot allocate ",
                                                     parts.num_bytes(), " bytes"));
  }
  std::memset(memory.get(), 0, parts.num_bytes());
  std::memcpy(memory.get(), &parts.header(), sizeof(WeightImageHeader));
  std::byte* const scales = memory.get() + TiledImage::kScalesOffset;
  std::byte* const codes = memory.get() + parts.codes_offset();
  if (const QuantFormat* const quant = QuantFormatOf(held); quant != nullptr) {
    RETURN_IF_ERROR(PackQuantised(source, parts, *quant, reinterpret_cast<uint16_t*>(scales),
                                  reinterpret_cast<uint8_t*>(codes)));
  } else {
    RETURN_IF_ERROR(PackStored(source, parts, codes));
    if (parts.scale_bytes() > 0) std::memcpy(scales, source.scales, parts.scale_bytes());
  }
  const absl::Span<const std::byte> bytes(memory.get(), parts.num_bytes());
  return Upload(parts, {bytes, std::shared_ptr<std::byte[]>(std::move(memory))}, device);
}

absl::StatusOr<std::unique_ptr<TiledWeight>> TiledWeight::Map(const WeightImage& image,
                                                              Instructions instructions,
                                                              Device& device) {
  ASSIGN_OR_RETURN(const WeightImageHeader header,
                   ReadImageHeader(image.bytes, TiledImage::kLayout));
  ASSIGN_OR_RETURN(const TiledImage parts, TiledImage::Of(header));
  if (parts.product_format() == ProductFormat::kFp8 &&
      parts.is_swizzled() != (instructions == Instructions::kWgmma)) {
    return absl::InvalidArgumentError(absl::StrCat("the image of fp8 products was made for ",
                                                   parts.is_swizzled() ? "" : "other GPUs than ",
                                                   "sm90; this GPU needs one of its own"));
  }
  if (image.bytes.size() != parts.num_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("an image of shape [", header.num_outputs, ", ",
                                                   header.num_inputs, "] has ", parts.num_bytes(),
                                                   " bytes, not ", image.bytes.size()));
  }
  return Upload(parts, image, device);
}

absl::StatusOr<std::unique_ptr<TiledWeight>> TiledWeight::Upload(const TiledImage& parts,
                                                                 const WeightImage& image,
                                                                 Device& device) {
  ASSIGN_OR_RETURN(Buffer on_device,
                   device.Share(image.bytes.data(), image.bytes.size(), image.owner));
  return std::unique_ptr<TiledWeight>(new TiledWeight(parts, &device, std::move(on_device)));
}

absl::StatusOr<WeightImage> TiledWeight::Image() const {
  std::shared_ptr<std::byte[]> memory(TryAllocateAligned<std::byte>(on_device_.num_bytes()));
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", on_device_.num_bytes(), " bytes of the host"));
  }
  const std::unique_ptr<Stream> stream = device_->MakeStream();
  stream->CopyToHost(memory.get(), on_device_.data(), on_device_.num_bytes());
  RETURN_IF_ERROR(stream->Synchronize());
  return WeightImage{.bytes = {memory.get(), on_device_.num_bytes()}, .owner = memory};
}

namespace {

OperandForm FormOf(const TiledImage& parts) {
  switch (parts.product_format()) {
    case ProductFormat::kF32:
      return OperandForm::kF32;
    case ProductFormat::kBf16:
      return OperandForm::kBf16;
    case ProductFormat::kFp8:
      return parts.is_swizzled() ? OperandForm::kSwizzled : OperandForm::kCodesAsBf16;
  }
  return OperandForm::kF32;
}

}  // namespace

DeviceWeight TiledWeight::on_device() const {
  DeviceWeight weight;
  weight.codes = on_device_.as<std::byte>() + parts_.codes_offset();
  weight.scales = on_device_.as<std::byte>() + TiledImage::kScalesOffset;
  weight.format = parts_.format();
  weight.form = FormOf(parts_);
  weight.num_outputs = num_outputs();
  weight.num_tiles = parts_.num_tiles();
  weight.num_steps = parts_.num_steps();
  weight.scale_block_outputs = parts_.header().scale_block_outputs;
  // Without scales each warp of a block sums its part as one.
  weight.block_steps = parts_.header().scale_block_inputs > 0
                           ? parts_.header().scale_block_inputs / kStepInputs
                           : CeilDivide(weight.num_steps, kProductWarps);
  weight.num_blocks = CeilDivide(weight.num_steps, weight.block_steps);
  return weight;
}

}  // namespace orrery
