#include "model/weight_bytes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "device/device.h"

namespace orrery {
namespace {

// Of one matrix.
absl::StatusOr<size_t> MatrixBytes(const WeightSource& source, ProductFormat format,
                                   WeightFormat held, const Kernels& kernels) {
  ASSIGN_OR_RETURN(const size_t num_bytes, kernels.WeightBytes(source, format, held));
  return ReservedBytes(num_bytes);
}

// Per head, as CheckpointLoader makes them.
absl::StatusOr<size_t> KvHeadsBytes(const KvHeadShape& shape, ProductFormat format,
                                    const Kernels& kernels) {
  const WeightSource key_up = {
      .dtype = DType::kF32, .num_outputs = shape.kv_lora_rank, .num_inputs = shape.key_dim};
  const WeightSource value_up = {
      .dtype = DType::kF32, .num_outputs = shape.value_dim, .num_inputs = shape.kv_lora_rank};
  ASSIGN_OR_RETURN(const size_t keys, MatrixBytes(key_up, format, WeightFormat::kStored, kernels));
  ASSIGN_OR_RETURN(const size_t values,
                   MatrixBytes(value_up, format, WeightFormat::kStored, kernels));
  return shape.num_heads * (keys + values);
}

absl::StatusOr<size_t> MadeBytes(const WeightItem& item, const ModelConfig& config, DType stored,
                                 const Numerics& numerics, const Kernels& kernels) {
  const ProductFormat format = ProductFormatOf(item.kind, stored, numerics);
  switch (item.kind) {
    case WeightItem::Kind::kVector:
      return ReservedBytes(item.num_rows * sizeof(float));
    case WeightItem::Kind::kTable: {
      const size_t value_bytes = stored == DType::kBf16 ? 2 : 4;  // f16 is widened
      return ReservedBytes(size_t{1} * item.num_rows * item.num_cols * value_bytes);
    }
    case WeightItem::Kind::kKvHeads:
      return KvHeadsBytes(item.heads, format, kernels);
    default: {
      WeightSource source = {
          .dtype = stored, .num_outputs = item.num_rows, .num_inputs = item.num_cols};
      if (stored == DType::kFp8E4m3) {
        source.scale_block_outputs = config.weight_block_outputs;
        source.scale_block_inputs = config.weight_block_inputs;
      }
      return MatrixBytes(source, format, HeldAs(item.kind, numerics), kernels);
    }
  }
}

}  // namespace

StoredDType StoredBy(const ModelConfig& config) {
  if (config.weight_block_outputs == 0) return [](const WeightItem&) { return DType::kBf16; };
  return [](const WeightItem& item) {
    const bool is_quantised = item.kind == WeightItem::Kind::kFeedForward ||
                              item.kind == WeightItem::Kind::kLinear ||
                              item.kind == WeightItem::Kind::kKvHeads;
    return is_quantised && absl::StartsWith(item.name, "model.layers.") &&
                   !absl::StrContains(item.name, ".eh_proj.")
               ? DType::kFp8E4m3
               : DType::kBf16;
  };
}

WeightFormat HeldAs(WeightItem::Kind kind, const Numerics& numerics) {
  if (kind == WeightItem::Kind::kFeedForward) return numerics.ffn_weights;
  return kind == WeightItem::Kind::kLinear ? numerics.linear_weights : WeightFormat::kStored;
}

ProductFormat ProductFormatOf(WeightItem::Kind kind, DType stored, const Numerics& numerics) {
  if (kind == WeightItem::Kind::kFeedForward && numerics.ffn_products == FfnProducts::kFp8) {
    return ProductFormat::kFp8;
  }
  const bool fits_bf16 = stored == DType::kBf16 || stored == DType::kFp8E4m3;
  if (kind == WeightItem::Kind::kLinearF32 || !fits_bf16) return ProductFormat::kF32;
  return numerics.product_format();
}

ItemBytes BytesOf(const ModelConfig& config, StoredDType stored, const Numerics& numerics,
                  const Kernels& kernels) {
  return [&config, stored = std::move(stored), numerics, &kernels](const WeightItem& item) {
    return MadeBytes(item, config, stored(item), numerics, kernels);
  };
}

absl::StatusOr<size_t> WeightBytes(const std::vector<WeightRecord>& records,
                                   const ItemBytes& item_bytes) {
  size_t total = 0;
  for (const WeightRecord& record : records) {
    for (const WeightItem& item : record.items) {
      ASSIGN_OR_RETURN(const size_t num_bytes, item_bytes(item));
      total += num_bytes;
    }
  }
  return total;
}

size_t LoadingBytes(const std::vector<WeightRecord>& records) {
  size_t most = 0;
  for (const WeightRecord& record : records) {
    for (const WeightItem& item : record.items) {
      // In f32: the halves of kv_b_proj, of which one is turned around; a table of f16; vectors. The scales of
      // other weights are less than a hundredth of them.
      const size_t values = size_t{1} * item.num_rows * std::max(item.num_cols, 1);
      const bool is_widened = item.kind == WeightItem::Kind::kKvHeads ||
                              item.kind == WeightItem::Kind::kTable ||
                              item.kind == WeightItem::Kind::kVector;
      most = std::max(most, is_widened ? 2 * sizeof(float) * values : values / 64);
    }
  }
  return most;
}

}  // namespace orrery
