#include "kernels/quantize.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/dtypes.h"
#include "kernels/load_value.h"

namespace orrery {
namespace {

constexpr QuantFormat kInt8Format = {.block_inputs = 128, .max_code = 127};
constexpr QuantFormat kInt4Format = {.block_inputs = 32, .max_code = 7};

// value = stored * its scale.
float DequantisedValue(const WeightSource& source, int output, int input) {
  const int64_t index = static_cast<int64_t>(output) * source.num_inputs + input;
  const float stored = LoadValue(source.dtype, source.data, index);
  if (source.dtype != DType::kFp8E4m3) return stored;
  const int64_t per_row =
      (source.num_inputs + source.scale_block_inputs - 1) / source.scale_block_inputs;
  const int64_t scale_row = output / source.scale_block_outputs;
  return stored * source.scales[scale_row * per_row + input / source.scale_block_inputs];
}

}  // namespace

const QuantFormat* QuantFormatOf(WeightFormat format) {
  switch (format) {
    case WeightFormat::kStored:
      return nullptr;
    case WeightFormat::kInt8:
      return &kInt8Format;
    case WeightFormat::kInt4:
      return &kInt4Format;
  }
  return nullptr;
}

uint16_t QuantizeBlock(const QuantFormat& format, absl::Span<const float> values, int8_t* codes) {
  float largest = 0.0f;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  const uint16_t scale_bits = F32ToBf16(largest / static_cast<float>(format.max_code));
  const float scale = Bf16ToF32(scale_bits);
  // A scale that is denormal would be flushed where it is used.
  if (scale < 0x1p-126f) {
    std::fill_n(codes, values.size(), int8_t{0});
    return 0;
  }
  const float max_code = static_cast<float>(format.max_code);
  for (size_t i = 0; i < values.size(); ++i) {
    const float code = std::nearbyint(values[i] / scale);
    codes[i] = static_cast<int8_t>(std::clamp(code, -max_code, max_code));
  }
  return scale_bits;
}

absl::Status QuantizeOutput(const WeightSource& source, int output, const QuantFormat& format,
                            QuantizedRow& row) {
  row.codes.resize(source.num_inputs);
  row.scales.clear();
  std::vector<float> values(format.block_inputs);
  for (int begin = 0; begin < source.num_inputs; begin += format.block_inputs) {
    const int num = std::min(format.block_inputs, source.num_inputs - begin);
    for (int i = 0; i < num; ++i) {
      values[i] = DequantisedValue(source, output, begin + i);
      if (!std::isfinite(values[i])) {
        return absl::InvalidArgumentError(absl::StrCat("output ", output, ", input ", begin + i,
                                                       " is ", values[i],
                                                       ", which has no place on a scale"));
      }
    }
    row.scales.push_back(
        QuantizeBlock(format, absl::MakeConstSpan(values).first(num), &row.codes[begin]));
  }
  return absl::OkStatus();
}

}  // namespace orrery
