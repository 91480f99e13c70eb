#include "model/weight_loader.h"

#include <cstring>

#include "absl/strings/str_cat.h"

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

}  // namespace

absl::StatusOr<WeightLoader::Tensor> WeightLoader::Read(const std::string& name, int num_outputs,
                                                        int num_inputs) {
  const std::string tensor_name = name + ".weight";
  ASSIGN_OR_RETURN(const TensorView view,
                   checkpoint_->Tensor(tensor_name, {num_outputs, num_inputs}));
  Tensor tensor;
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

ProductFormat WeightLoader::FormatFor(DType stored) const {
  const bool fits_bf16 = stored == DType::kBf16 || stored == DType::kFp8E4m3;
  return fits_bf16 ? numerics_.product_format() : ProductFormat::kF32;
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::Make(const std::string& name,
                                                           const WeightSource& source,
                                                           ProductFormat format,
                                                           WeightFormat held) {
  absl::StatusOr<std::unique_ptr<Weight>> weight = kernels_->MakeWeight(source, format, held);
  if (!weight.ok()) {
    return absl::Status(weight.status().code(),
                        absl::StrCat(name, ".weight: ", weight.status().message()));
  }
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::Linear(const std::string& name,
                                                             int num_outputs, int num_inputs) {
  ASSIGN_OR_RETURN(const Tensor tensor, Read(name, num_outputs, num_inputs));
  return Make(name, tensor.source, FormatFor(tensor.source.dtype), WeightFormat::kStored);
}

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::LinearF32(const std::string& name,
                                                                int num_outputs, int num_inputs) {
  ASSIGN_OR_RETURN(const Tensor tensor, Read(name, num_outputs, num_inputs));
  return Make(name, tensor.source, ProductFormat::kF32, WeightFormat::kStored);
}

absl::StatusOr<FeedForwardWeights> WeightLoader::FeedForward(const std::string& prefix, int hidden,
                                                             int width) {
  const auto load = [&](const char* part, int num_outputs,
                        int num_inputs) -> absl::StatusOr<std::unique_ptr<Weight>> {
    const std::string name = prefix + part;
    ASSIGN_OR_RETURN(const Tensor tensor, Read(name, num_outputs, num_inputs));
    return Make(name, tensor.source, FormatFor(tensor.source.dtype), numerics_.ffn_weights);
  };
  FeedForwardWeights weights;
  ASSIGN_OR_RETURN(weights.gate, load(".gate_proj", width, hidden));
  ASSIGN_OR_RETURN(weights.up, load(".up_proj", width, hidden));
  ASSIGN_OR_RETURN(weights.down, load(".down_proj", hidden, width));
  return weights;
}

absl::StatusOr<Buffer> WeightLoader::Vector(const std::string& name, int size) {
  ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Tensor(name, {size}));
  const std::vector<float> values = ToF32(view, size);
  *loaded_bytes_ += static_cast<int64_t>(view.num_bytes);
  ASSIGN_OR_RETURN(Buffer buffer, device_->Allocate(size * sizeof(float), MemoryKind::kDevice));
  const std::unique_ptr<Stream> stream = device_->MakeStream();
  stream->CopyToDevice(buffer.data(), values.data(), size * sizeof(float));
  RETURN_IF_ERROR(stream->Synchronize());
  return buffer;
}

absl::StatusOr<Table> WeightLoader::Rows(const std::string& name, int num_rows, int width) {
  const std::string tensor_name = name + ".weight";
  ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Tensor(tensor_name, {num_rows, width}));
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

absl::StatusOr<HostMatrix> WeightLoader::Dequantized(const std::string& name, int num_outputs,
                                                     int num_inputs) {
  ASSIGN_OR_RETURN(const Tensor tensor, Read(name, num_outputs, num_inputs));
  const WeightSource& source = tensor.source;
  const std::byte* data = static_cast<const std::byte*>(source.data);
  HostMatrix matrix;
  matrix.format = FormatFor(source.dtype);
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

absl::StatusOr<std::unique_ptr<Weight>> WeightLoader::FromValues(const float* values,
                                                                 int num_outputs, int num_inputs,
                                                                 ProductFormat format) {
  WeightSource source;
  source.dtype = DType::kF32;
  source.data = values;
  source.num_outputs = num_outputs;
  source.num_inputs = num_inputs;
  return kernels_->MakeWeight(source, format);
}

}  // namespace orrery
