#include "kernels/cpu/packed_weight.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_memory.h"
#include "base/check.h"
#include "kernels/load_value.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Beyond it nothing is a scale block any more, and indices could overflow.
constexpr int kMaxScaleBlock = 1 << 28;

// As the lanes round: nearest even, denormals flushed. Weights that are bf16 on disk pass unchanged
// (the product flushes their denormals).
uint16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7f800000u) == 0) return static_cast<uint16_t>((bits >> 16) & 0x8000u);
  return F32ToBf16(value);
}

PanelFormat PanelFormatOf(DType stored, ProductFormat format, WeightFormat held) {
  if (held == WeightFormat::kInt8) return PanelFormat::kInt8;
  if (held == WeightFormat::kInt4) return PanelFormat::kInt4;
  if (stored == DType::kFp8E4m3) return PanelFormat::kFp8;
  const bool is_bf16 = stored == DType::kBf16 || format == ProductFormat::kBf16;
  return is_bf16 ? PanelFormat::kBf16 : PanelFormat::kF32;
}

// 0 for what is no format.
int ElementBits(PanelFormat format) {
  switch (format) {
    case PanelFormat::kF32:
      return 32;
    case PanelFormat::kBf16:
      return 16;
    case PanelFormat::kFp8:
    case PanelFormat::kInt8:
      return 8;
    case PanelFormat::kInt4:
      return 4;
  }
  return 0;
}

const QuantFormat* QuantFormatOfPanels(PanelFormat format) {
  if (format == PanelFormat::kInt8) return QuantFormatOf(WeightFormat::kInt8);
  if (format == PanelFormat::kInt4) return QuantFormatOf(WeightFormat::kInt4);
  return nullptr;
}

WeightImageHeader HeaderOf(const WeightSource& source, ProductFormat format, WeightFormat held) {
  const PanelFormat panel_format = PanelFormatOf(source.dtype, format, held);
  const PanelLayout layout(source.num_outputs, source.num_inputs);
  WeightImageHeader header =
      MakeImageHeader(PackedImage::kLayout, source.num_outputs, source.num_inputs);
  header.product_format = static_cast<int32_t>(format);
  header.panel_format = static_cast<int32_t>(panel_format);
  header.scale_block_outputs = layout.padded_outputs();
  header.scale_block_inputs = layout.padded_inputs();
  if (panel_format == PanelFormat::kFp8) {
    header.scale_block_outputs = source.scale_block_outputs;
    header.scale_block_inputs = source.scale_block_inputs;
  } else if (const QuantFormat* const quant = QuantFormatOfPanels(panel_format)) {
    header.scale_block_inputs = quant->block_inputs;
  }
  return header;
}

absl::Status CheckProducts(ProductFormat format) {
  if (format != ProductFormat::kFp8) return absl::OkStatus();
  return absl::UnimplementedError(
      "the x86 kernels do not multiply fp8 activations; the cuda and the reference kernels do");
}

// Fills the image of a weight, which starts as zeros.
class Packer {
 public:
  Packer(const PackedImage& parts, std::byte* image)
      : parts_(parts),
        layout_(parts.layout()),
        scales_(image + PackedImage::kScalesOffset),
        panels_(image + parts.panels_offset()) {
    std::memcpy(image, &parts.header(), sizeof(WeightImageHeader));
  }

  absl::Status Pack(const WeightSource& source);
  void CopyScales(const WeightSource& source) {
    const float one = 1.0f;
    std::memcpy(scales_, parts_.format() == PanelFormat::kFp8 ? source.scales : &one,
                parts_.scale_bytes());
  }
  // Codes and scales.
  absl::Status Quantize(const WeightSource& source, const QuantFormat& format);

 private:
  template <typename T>
  T* PanelsOf() {
    return reinterpret_cast<T*>(panels_);
  }

  const PackedImage& parts_;
  const PanelLayout& layout_;
  std::byte* const scales_;
  std::byte* const panels_;
};

absl::Status Packer::Pack(const WeightSource& source) {
  for (int o = 0; o < source.num_outputs; ++o) {
    const int64_t row = static_cast<int64_t>(o) * source.num_inputs;
    for (int i = 0; i < source.num_inputs; ++i) {
      switch (parts_.format()) {
        case PanelFormat::kFp8: {
          const uint8_t code = static_cast<const uint8_t*>(source.data)[row + i];
          if ((code & 0x7f) == 0x7f) {
            return absl::InvalidArgumentError(
                absl::StrCat("output ", o, ", input ", i, " is not a number"));
          }
          PanelsOf<uint8_t>()[layout_.ByteIndex(o, i)] = code;
          break;
        }
        case PanelFormat::kBf16: {
          const float value = LoadValue(source.dtype, source.data, row + i);
          PanelsOf<uint16_t>()[layout_.PairIndex(o, i)] =
              source.dtype == DType::kBf16 ? F32ToBf16(value) : ToBf16(value);
          break;
        }
        case PanelFormat::kF32:
          PanelsOf<float>()[layout_.F32Index(o, i)] = LoadValue(source.dtype, source.data, row + i);
          break;
        case PanelFormat::kInt8:
        case PanelFormat::kInt4:
          ORRERY_CHECK(false) << "made by Quantize";
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Packer::Quantize(const WeightSource& source, const QuantFormat& format) {
  const int scales_per_row = parts_.scales_per_row();
  auto* const scales = reinterpret_cast<uint16_t*>(scales_);
  uint8_t* const panels = PanelsOf<uint8_t>();
  // Padding, too, is a number's code.
  if (parts_.format() == PanelFormat::kInt4) std::memset(panels, 0x88, parts_.panel_bytes());
  QuantizedRow row;
  for (int o = 0; o < source.num_outputs; ++o) {
    RETURN_IF_ERROR(QuantizeOutput(source, o, format, row));
    for (int i = 0; i < source.num_inputs; ++i) {
      if (parts_.format() == PanelFormat::kInt8) {
        const int magnitude = std::abs(row.codes[i]);
        panels[layout_.ByteIndex(o, i)] =
            static_cast<uint8_t>(row.codes[i] < 0 ? 0x80 | magnitude : magnitude);
      } else {
        const size_t index = layout_.PairIndex(o, i);
        uint8_t& both = panels[index / 2];
        const int shift = index % 2 * 4;
        both = static_cast<uint8_t>((both & ~(15 << shift)) | (row.codes[i] + 8) << shift);
      }
    }
    for (int block = 0; block < scales_per_row; ++block) {
      const size_t panel = o / kVectorLanes;
      scales[(panel * scales_per_row + block) * kVectorLanes + o % kVectorLanes] =
          row.scales[block];
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PackedImage> PackedImage::Of(const WeightImageHeader& header) {
  const PackedImage parts(header);
  const int outputs = header.scale_block_outputs, inputs = header.scale_block_inputs;
  if (ElementBits(parts.format()) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image claims panel format ", header.panel_format));
  }
  if (header.product_format == static_cast<int32_t>(ProductFormat::kFp8)) {
    return absl::InvalidArgumentError("the image claims fp8 products, which the x86 kernels lack");
  }
  const QuantFormat* const quant = QuantFormatOfPanels(parts.format());
  const bool is_fp8 = parts.format() == PanelFormat::kFp8;
  const auto is_block = [](int block, int multiple) {
    return block > 0 && block <= kMaxScaleBlock && block % multiple == 0;
  };
  if (is_fp8 && (!is_block(outputs, kVectorLanes) || !is_block(inputs, kSumBlock))) {
    return absl::InvalidArgumentError(absl::StrCat("scale block of [", outputs, ", ", inputs,
                                                   "]: the cpu kernels need multiples of [",
                                                   kVectorLanes, ", ", kSumBlock, "]"));
  }
  if (!is_fp8 &&
      (outputs != parts.layout_.padded_outputs() ||
       inputs != (quant != nullptr ? quant->block_inputs : parts.layout_.padded_inputs()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image claims scale blocks of [", outputs, ", ", inputs, "]"));
  }
  return parts;
}

bool PackedImage::has_output_scales() const { return QuantFormatOfPanels(format()) != nullptr; }

int PackedImage::scales_per_row() const {
  const int block = header_.scale_block_inputs;
  return header_.num_inputs / block + (header_.num_inputs % block != 0);
}

size_t PackedImage::scale_bytes() const {
  const size_t per_row = scales_per_row();
  if (has_output_scales()) return layout_.padded_outputs() * per_row * sizeof(uint16_t);
  const int block = header_.scale_block_outputs;
  return (header_.num_outputs / block + (header_.num_outputs % block != 0)) * per_row *
         sizeof(float);
}

size_t PackedImage::panel_bytes() const {
  return layout_.num_elements() * ElementBits(format()) / 8;
}

absl::StatusOr<std::unique_ptr<PackedWeight>> PackedWeight::Make(const WeightSource& source,
                                                                 ProductFormat format,
                                                                 WeightFormat held) {
  RETURN_IF_ERROR(CheckProducts(format));
  RETURN_IF_ERROR(CheckWeightSource(source, format, held));
  ASSIGN_OR_RETURN(const PackedImage parts, PackedImage::Of(HeaderOf(source, format, held)));
  AlignedArray<std::byte> memory = TryAllocateAligned<std::byte>(parts.num_bytes());
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("weight of shape [", source.num_outputs, ", ",
                                                     source.num_inputs, "]: cannot allocate ",
                                                     parts.num_bytes(), " bytes"));
  }
  std::memset(memory.get(), 0, parts.num_bytes());
  Packer packer(parts, memory.get());
  if (const QuantFormat* const quant = QuantFormatOf(held); quant != nullptr) {
    RETURN_IF_ERROR(packer.Quantize(source, *quant));
  } else {
    RETURN_IF_ERROR(packer.Pack(source));
    packer.CopyScales(source);
  }
  const absl::Span<const std::byte> bytes(memory.get(), parts.num_bytes());
  return std::unique_ptr<PackedWeight>(
      new PackedWeight(parts, {bytes, std::shared_ptr<std::byte[]>(std::move(memory))}));
}

absl::StatusOr<size_t> PackedWeight::ImageBytes(const WeightSource& source, ProductFormat format,
                                                WeightFormat held) {
  RETURN_IF_ERROR(CheckProducts(format));
  ASSIGN_OR_RETURN(const PackedImage parts, PackedImage::Of(HeaderOf(source, format, held)));
  return parts.num_bytes();
}

absl::StatusOr<std::unique_ptr<PackedWeight>> PackedWeight::Map(const WeightImage& image) {
  ASSIGN_OR_RETURN(const WeightImageHeader header,
                   ReadImageHeader(image.bytes, PackedImage::kLayout));
  ASSIGN_OR_RETURN(const PackedImage parts, PackedImage::Of(header));
  if (image.bytes.size() != parts.num_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("an image of shape [", header.num_outputs, ", ",
                                                   header.num_inputs, "] has ", parts.num_bytes(),
                                                   " bytes, not ", image.bytes.size()));
  }
  return std::unique_ptr<PackedWeight>(new PackedWeight(parts, image));
}

void PackedWeight::Describe(MatmulJob& job) const {
  const std::byte* const scales = image_.bytes.data() + PackedImage::kScalesOffset;
  const bool per_output = parts_.has_output_scales();
  job.num_inputs = padded_inputs();
  job.num_outputs = num_outputs();
  job.format = parts_.format();
  job.panels = image_.bytes.data() + parts_.panels_offset();
  job.scales = per_output ? nullptr : reinterpret_cast<const float*>(scales);
  job.output_scales = per_output ? reinterpret_cast<const uint16_t*>(scales) : nullptr;
  job.scales_per_row = parts_.scales_per_row();
  job.scale_block_inputs = parts_.header().scale_block_inputs;
  job.scale_block_outputs = parts_.header().scale_block_outputs;
}

}  // namespace orrery
