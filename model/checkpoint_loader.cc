#include "model/checkpoint_loader.h"

#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "model/weight_bytes.h"

namespace orrery {
namespace {

int CeilDiv(int a, int b) { return (a + b - 1) / b; }

float ReadValue(DType dtype, const std::byte* data, size_t index) {
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, data + index * 4, 4);
      return value;
    }
    case DType::kBf16:
    case DType::kF16: {
      uint16_t bits;
      std::memcpy(&bits, data + index * 2, 2);
      return dtype == DType::kBf16 ? Bf16ToF32(bits) : F16ToF32(bits);
    }
    case DType::kFp8E4m3:
      return Fp8E4m3ToF32(static_cast<uint8_t>(data[index]));
  }
  return 0.0f;
}

std::vector<float> ToF32(const TensorView& tensor, size_t num_values) {
  std::vector<float> values(num_values);
  for (size_t i = 0; i < num_values; ++i) values[i] = ReadValue(tensor.dtype, tensor.data, i);
  return values;
}

// At the end of the scope: a checkpoint that was copied into weights should not count as memory, too.
auto ForgetLater(const TensorView& tensor) {
  return absl::MakeCleanup([bytes = absl::MakeConstSpan(tensor.data, tensor.num_bytes)] {
    SafetensorsFile::Forget(bytes);
  });
}

}  // namespace

absl::StatusOr<CheckpointLoader::Tensor> CheckpointLoader::Read(const WeightItem& item) {
  const std::string& tensor_name = item.name;
  const int num_outputs = item.num_rows, num_inputs = item.num_cols;
  ASSIGN_OR_RETURN(const TensorView view,
                   checkpoint_->Tensor(tensor_name, {num_outputs, num_inputs}));
  Tensor tensor;
  tensor.view = view;
  tensor.source.dtype = view.dtype;
  tensor.source.data = view.data;
  tensor.source.num_outputs = num_outputs;
  tensor.source.num_inputs = num_inputs;
  *loaded_bytes_ += static_cast<int64_t>(view.num_bytes);
  if (view.dtype != DType::kFp8E4m3) return tensor;

  const int block_outputs = config_->weight_block_outputs;
  const int block_inputs = config_->weight_block_inputs;
  if (block_outputs <= 0 || block_inputs <= 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        tensor_name, " is fp8, but config.json has no quantization_config.weight_block_size"));
  }
  const int scale_rows = CeilDiv(num_outputs, block_outputs);
  const int scale_cols = CeilDiv(num_inputs, block_inputs);
  const std::string scale_name = tensor_name + "_scale_inv";
  ASSIGN_OR_RETURN(const TensorView scales,
                   checkpoint_->Tensor(scale_name, {scale_rows, scale_cols}));
  if (scales.dtype != DType::kF32) {
    return absl::InvalidArgumentError(absl::StrCat(
        scale_name, " has dtype ", std::string(DTypeName(scales.dtype)), "; scales must be f32"));
  }
  tensor.scales = ToF32(scales, static_cast<size_t>(scale_rows) * scale_cols);
  tensor.source.scales = tensor.scales.data();
  tensor.source.scale_block_outputs = block_outputs;
  tensor.source.scale_block_inputs = block_inputs;
  return tensor;
}

absl::StatusOr<std::unique_ptr<Weight>> CheckpointLoader::LoadWeight(const WeightItem& item) {
  ASSIGN_OR_RETURN(const Tensor tensor, Read(item));
  const auto forget = ForgetLater(tensor.view);
  absl::StatusOr<std::unique_ptr<Weight>> weight = kernels_->MakeWeight(
      tensor.source, ProductFormatOf(item.kind, tensor.source.dtype, numerics_),
      HeldAs(item.kind, numerics_));
  if (!weight.ok()) {
    return absl::Status(weight.status().code(),
                        absl::StrCat(item.name, ": ", weight.status().message()));
  }
  return weight;
}

absl::StatusOr<Buffer> CheckpointLoader::LoadVector(const WeightItem& item) {
  const int size = item.num_rows;
  ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Tensor(item.name, {size}));
  const std::vector<float> values = ToF32(view, size);
  *loaded_bytes_ += static_cast<int64_t>(view.num_bytes);
  ASSIGN_OR_RETURN(Buffer buffer, device_->Allocate(size * sizeof(float), MemoryKind::kDevice));
  const std::unique_ptr<Stream> stream = device_->MakeStream();
  stream->CopyToDevice(buffer.data(), values.data(), size * sizeof(float));
  RETURN_IF_ERROR(stream->Synchronize());
  return buffer;
}

absl::StatusOr<Table> CheckpointLoader::LoadTable(const WeightItem& item) {
  const std::string& tensor_name = item.name;
  const int num_rows = item.num_rows, width = item.num_cols;
  ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Tensor(tensor_name, {num_rows, width}));
  const auto forget = ForgetLater(view);
  if (view.dtype == DType::kFp8E4m3) {
    return absl::InvalidArgumentError(
        absl::StrCat(tensor_name, " has dtype fp8_e4m3; an embedding must be bf16, f16 or f32"));
  }
  const size_t num_values = static_cast<size_t>(num_rows) * width;
  std::vector<float> widened;
  Table table;
  table.dtype = view.dtype;
  const void* values = view.data;
  if (view.dtype == DType::kF16) {  // rare: kept as f32, which holds every f16 exactly
    widened = ToF32(view, num_values);
    table.dtype = DType::kF32;
    values = widened.data();
  }
  const size_t num_bytes = num_values * DTypeBytes(table.dtype);
  ASSIGN_OR_RETURN(table.data, device_->Allocate(num_bytes, MemoryKind::kDevice));
  const std::unique_ptr<Stream> stream = device_->MakeStream();
  stream->CopyToDevice(table.data.data(), values, num_bytes);
  RETURN_IF_ERROR(stream->Synchronize());
  *loaded_bytes_ += static_cast<int64_t>(view.num_bytes);
  return table;
}

absl::StatusOr<KvHeadWeights> CheckpointLoader::LoadKvHeads(const WeightItem& item) {
  ASSIGN_OR_RETURN(const HostMatrix kv_b, Dequantized(item));
  const auto& [num_heads, key_dim, value_dim, latent] = item.heads;
  KvHeadWeights weights;
  std::vector<float> transposed(static_cast<size_t>(latent) * key_dim);
  for (int head = 0; head < num_heads; ++head) {
    const float* keys =
        kv_b.values.data() + static_cast<size_t>(head) * (key_dim + value_dim) * latent;
    for (int d = 0; d < key_dim; ++d) {
      for (int r = 0; r < latent; ++r) transposed[r * key_dim + d] = keys[d * latent + r];
    }
    ASSIGN_OR_RETURN(auto key_up, FromValues(transposed.data(), latent, key_dim, kv_b.format));
    ASSIGN_OR_RETURN(auto value_up, FromValues(keys + static_cast<size_t>(key_dim) * latent,
                                               value_dim, latent, kv_b.format));
    weights.key_up.push_back(std::move(key_up));
    weights.value_up.push_back(std::move(value_up));
  }
  return weights;
}

absl::StatusOr<CheckpointLoader::HostMatrix> CheckpointLoader::Dequantized(const WeightItem& item) {
  ASSIGN_OR_RETURN(const Tensor tensor, Read(item));
  const auto forget = ForgetLater(tensor.view);
  const int num_outputs = item.num_rows, num_inputs = item.num_cols;
  const WeightSource& source = tensor.source;
  const std::byte* data = static_cast<const std::byte*>(source.data);
  HostMatrix matrix;
  matrix.format = ProductFormatOf(item.kind, source.dtype, numerics_);
  matrix.values.resize(static_cast<size_t>(num_outputs) * num_inputs);
  const int scale_cols = source.scales ? CeilDiv(num_inputs, source.scale_block_inputs) : 0;
  for (int o = 0; o < num_outputs; ++o) {
    for (int i = 0; i < num_inputs; ++i) {
      const size_t index = static_cast<size_t>(o) * num_inputs + i;
      float value = ReadValue(source.dtype, data, index);
      if (source.scales) {
        value *= source.scales[o / source.scale_block_outputs * scale_cols +
                               i / source.scale_block_inputs];
      }
      matrix.values[index] = value;
    }
  }
  return matrix;
}

absl::StatusOr<std::unique_ptr<Weight>> CheckpointLoader::FromValues(const float* values,
                                                                     int num_outputs,
                                                                     int num_inputs,
                                                                     ProductFormat format) {
  WeightSource source;
  source.dtype = DType::kF32;
  source.data = values;
  source.num_outputs = num_outputs;
  source.num_inputs = num_inputs;
  return kernels_->MakeWeight(source, format);
}

}  // namespace orrery
