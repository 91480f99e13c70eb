#include "kernels/cpu/packed_weight.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
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

template <typename T>
absl::StatusOr<AlignedArray<T>> AllocateZeroed(const WeightSource& source, size_t num) {
  AlignedArray<T> memory = TryAllocateAligned<T>(num);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("weight of shape [", source.num_outputs, ", ",
                                                     source.num_inputs, "]: cannot allocate ",
                                                     num * sizeof(T), " bytes"));
  }
  std::fill_n(memory.get(), num, T{0});
  return memory;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedWeight>> PackedWeight::Make(const WeightSource& source,
                                                                 ProductFormat format) {
  RETURN_IF_ERROR(CheckWeightSource(source));
  if (source.dtype == DType::kFp8E4m3 && (source.scale_block_outputs % kVectorLanes != 0 ||
                                          source.scale_block_inputs % kSumBlock != 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "scale block of [", source.scale_block_outputs, ", ", source.scale_block_inputs,
        "]: the cpu kernels need multiples of [", kVectorLanes, ", ", kSumBlock, "]"));
  }
  std::unique_ptr<PackedWeight> weight(
      new PackedWeight(source.num_outputs, source.num_inputs, format));
  RETURN_IF_ERROR(weight->Pack(source));
  if (source.dtype == DType::kFp8E4m3) weight->CopyScales(source);
  return weight;
}

PackedWeight::PackedWeight(int num_outputs, int num_inputs, ProductFormat format)
    : Weight(num_outputs, num_inputs),
      layout_(num_outputs, num_inputs),
      format_(format),
      scales_(1, 1.0f),
      scale_block_inputs_(layout_.padded_inputs()),
      scale_block_outputs_((num_outputs + kVectorLanes - 1) / kVectorLanes * kVectorLanes) {}

absl::Status PackedWeight::Pack(const WeightSource& source) {
  const bool exact_in_bf16 = source.dtype == DType::kBf16 || source.dtype == DType::kFp8E4m3;
  const bool use_bf16 = exact_in_bf16 || format_ == ProductFormat::kBf16;
  if (use_bf16) {
    ASSIGN_OR_RETURN(bf16_, AllocateZeroed<uint16_t>(source, layout_.num_elements()));
  } else {
    ASSIGN_OR_RETURN(f32_, AllocateZeroed<float>(source, layout_.num_elements()));
  }
  for (int o = 0; o < source.num_outputs; ++o) {
    const int64_t row = static_cast<int64_t>(o) * source.num_inputs;
    for (int i = 0; i < source.num_inputs; ++i) {
      const float value = LoadValue(source.dtype, source.data, row + i);
      if (exact_in_bf16) {
        bf16_[layout_.Bf16Index(o, i)] = F32ToBf16(value);
      } else if (use_bf16) {
        bf16_[layout_.Bf16Index(o, i)] = ToBf16(value);
      } else {
        f32_[layout_.F32Index(o, i)] = value;
      }
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

size_t PackedWeight::num_bytes() const {
  const size_t element_bytes = bf16_ != nullptr ? sizeof(uint16_t) : sizeof(float);
  return layout_.num_elements() * element_bytes + scales_.size() * sizeof(float);
}

void PackedWeight::Describe(MatmulJob& job) const {
  job.num_inputs = layout_.padded_inputs();
  job.num_outputs = num_outputs();
  job.is_bf16 = bf16_ != nullptr;
  job.panels = job.is_bf16 ? static_cast<const void*>(bf16_.get()) : f32_.get();
  job.scales = scales_.data();
  job.scales_per_row = scales_per_row_;
  job.scale_block_inputs = scale_block_inputs_;
  job.scale_block_outputs = scale_block_outputs_;
}

}  // namespace orrery
