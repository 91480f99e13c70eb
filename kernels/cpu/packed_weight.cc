#include "kernels/cpu/packed_weight.h"

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "kernels/load_value.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

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

}  // namespace

absl::StatusOr<std::unique_ptr<PackedWeight>> PackedWeight::Make(const WeightSource& source,
                                                                 ProductFormat format,
                                                                 WeightFormat held) {
  RETURN_IF_ERROR(CheckWeightSource(source));
  const PanelFormat panel_format = PanelFormatOf(source.dtype, format, held);
  if (panel_format == PanelFormat::kFp8 && (source.scale_block_outputs % kVectorLanes != 0 ||
                                            source.scale_block_inputs % kSumBlock != 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "scale block of [", source.scale_block_outputs, ", ", source.scale_block_inputs,
        "]: the cpu kernels need multiples of [", kVectorLanes, ", ", kSumBlock, "]"));
  }
  std::unique_ptr<PackedWeight> weight(
      new PackedWeight(source.num_outputs, source.num_inputs, format, panel_format));
  const size_t num_bytes = weight->PanelBytes();
  weight->panels_ = TryAllocateAligned<std::byte>(num_bytes);
  if (weight->panels_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("weight of shape [", source.num_outputs, ", ",
                                                     source.num_inputs, "]: cannot allocate ",
                                                     num_bytes, " bytes"));
  }
  std::memset(weight->panels_.get(), 0, num_bytes);
  if (const QuantFormat* const quant = QuantFormatOf(held); quant != nullptr) {
    RETURN_IF_ERROR(weight->Quantize(source, *quant));
  } else {
    RETURN_IF_ERROR(weight->Pack(source));
    if (panel_format == PanelFormat::kFp8) weight->CopyScales(source);
  }
  return weight;
}

PackedWeight::PackedWeight(int num_outputs, int num_inputs, ProductFormat format,
                           PanelFormat panel_format)
    : Weight(num_outputs, num_inputs),
      layout_(num_outputs, num_inputs),
      format_(format),
      panel_format_(panel_format),
      scales_(1, 1.0f),
      scale_block_inputs_(layout_.padded_inputs()),
      scale_block_outputs_((num_outputs + kVectorLanes - 1) / kVectorLanes * kVectorLanes) {}

absl::Status PackedWeight::Pack(const WeightSource& source) {
  for (int o = 0; o < source.num_outputs; ++o) {
    const int64_t row = static_cast<int64_t>(o) * source.num_inputs;
    for (int i = 0; i < source.num_inputs; ++i) {
      switch (panel_format_) {
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

absl::Status PackedWeight::Quantize(const WeightSource& source, const QuantFormat& format) {
  scale_block_inputs_ = format.block_inputs;
  scales_per_row_ = (source.num_inputs + format.block_inputs - 1) / format.block_inputs;
  scales_.clear();
  output_scales_.resize(layout_.padded_outputs() * scales_per_row_);
  uint8_t* const panels = PanelsOf<uint8_t>();
  // Padding, too, is a number's code.
  if (panel_format_ == PanelFormat::kInt4) std::memset(panels, 0x88, PanelBytes());
  QuantizedRow row;
  for (int o = 0; o < source.num_outputs; ++o) {
    RETURN_IF_ERROR(QuantizeOutput(source, o, format, row));
    for (int i = 0; i < source.num_inputs; ++i) {
      if (panel_format_ == PanelFormat::kInt8) {
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
    for (int block = 0; block < scales_per_row_; ++block) {
      const int panel = o / kVectorLanes;
      output_scales_[(panel * scales_per_row_ + block) * kVectorLanes + o % kVectorLanes] =
          row.scales[block];
    }
  }
  return absl::OkStatus();
}

void PackedWeight::CopyScales(const WeightSource& source) {
  scale_block_outputs_ = source.scale_block_outputs;
  scale_block_inputs_ = source.scale_block_inputs;
  const size_t num_rows = (source.num_outputs + scale_block_outputs_ - 1) / scale_block_outputs_;
  scales_per_row_ = (source.num_inputs + scale_block_inputs_ - 1) / scale_block_inputs_;
  scales_.assign(source.scales, source.scales + num_rows * scales_per_row_);
}

size_t PackedWeight::PanelBytes() const {
  return layout_.num_elements() * ElementBits(panel_format_) / 8;
}

size_t PackedWeight::num_bytes() const {
  return PanelBytes() + scales_.size() * sizeof(float) + output_scales_.size() * sizeof(uint16_t);
}

size_t PackedWeight::num_decoded() const {
  return ElementBits(panel_format_) <= 8 ? kMaxDecodedPanels * layout_.panel_stride() : 0;
}

void PackedWeight::Describe(MatmulJob& job) const {
  job.num_inputs = layout_.padded_inputs();
  job.num_outputs = num_outputs();
  job.format = panel_format_;
  job.panels = panels_.get();
  job.scales = scales_.empty() ? nullptr : scales_.data();
  job.output_scales = output_scales_.data();
  job.scales_per_row = scales_per_row_;
  job.scale_block_inputs = scale_block_inputs_;
  job.scale_block_outputs = scale_block_outputs_;
}

}  // namespace orrery
