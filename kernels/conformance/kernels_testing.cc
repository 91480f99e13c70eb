#include "kernels/conformance/kernels_testing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace orrery {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Odd, so that seeds of a run fall on all others: 2^32 by the golden ratio.
constexpr uint32_t kSeedStride = 0x9e3779b9u;

// f16 of a value with |value| < 4, rounded towards zero: exactness of the test's own value is all
// it needs.
uint16_t SomeF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const int exponent = static_cast<int>((bits >> 23) & 0xffu) - 112;
  if (exponent <= 0) return sign | static_cast<uint16_t>(std::fabs(value) * 0x1p24f);
  return sign | static_cast<uint16_t>((exponent << 10) | ((bits >> 13) & 0x3ffu));
}

template <typename T>
void Put(T value, std::vector<uint8_t>& bytes) {
  const size_t at = bytes.size();
  bytes.resize(at + sizeof(value));
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

void PutAs(DType dtype, float value, std::vector<uint8_t>& bytes) {
  switch (dtype) {
    case DType::kF32:
      return Put(value, bytes);
    case DType::kBf16:
      return Put(F32ToBf16(value), bytes);
    case DType::kF16:
      return Put(SomeF16(value), bytes);
    case DType::kFp8E4m3:
      return Put(F32ToFp8E4m3(value * 16.0f), bytes);
  }
}

float Stored(DType dtype, const uint8_t* data, int64_t index) {
  const uint8_t* at = data + index * DTypeBytes(dtype);
  if (dtype == DType::kFp8E4m3) return Fp8E4m3ToF32(*at);
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t half;
  std::memcpy(&half, at, sizeof(half));
  return dtype == DType::kBf16 ? Bf16ToF32(half) : F16ToF32(half);
}

int CeilDivide(int a, int b) { return (a + b - 1) / b; }

}  // namespace

std::unique_ptr<Kernels> Implementation::Make() const {
  absl::StatusOr<std::unique_ptr<Kernels>> kernels = make();
  EXPECT_TRUE(kernels.ok()) << kernels.status();
  return *std::move(kernels);
}

void KernelsConformance::SetUp() {
  absl::StatusOr<std::unique_ptr<Kernels>> kernels = GetParam().make();
  if (absl::IsUnavailable(kernels.status())) {
    GTEST_SKIP() << "SKIPPED, nothing was tested: " << kernels.status();
  }
  ASSERT_TRUE(kernels.ok()) << kernels.status();
  kernels_ = *std::move(kernels);
}

RandomValues::RandomValues(uint32_t seed)
    : engine_(seed + kSeedStride * testing::UnitTest::GetInstance()->random_seed()) {}

std::vector<float> RandomValues::Make(size_t num, float scale) {
  std::normal_distribution<float> normal;
  std::vector<float> values(num);
  for (float& value : values) value = scale * normal(engine_);
  return values;
}

TestMatrix::TestMatrix(int64_t num_rows, int64_t num_cols, int64_t gap)
    : num_rows_(num_rows),
      num_cols_(num_cols),
      gap_(gap),
      values_(num_rows * (num_cols + gap), kNan) {}

TestMatrix::TestMatrix(int64_t num_rows, int64_t num_cols, const std::vector<float>& values,
                       int64_t gap)
    : TestMatrix(num_rows, num_cols, gap) {
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int64_t i = 0; i < num_cols; ++i) view().row(r)[i] = values[r * num_cols + i];
  }
}

std::vector<float> TestMatrix::Values() const {
  std::vector<float> values;
  for (int64_t r = 0; r < num_rows_; ++r) {
    const float* row = values_.data() + r * (num_cols_ + gap_);
    values.insert(values.end(), row, row + num_cols_);
  }
  return values;
}

bool TestMatrix::GapsAreUntouched() const {
  for (int64_t r = 0; r < num_rows_; ++r) {
    for (int64_t i = num_cols_; i < num_cols_ + gap_; ++i) {
      if (!std::isnan(values_[r * (num_cols_ + gap_) + i])) return false;
    }
  }
  return true;
}

TestWeight::TestWeight(DType dtype, const Shape& shape, uint32_t seed, float scale) {
  RandomValues random(seed);
  const std::vector<float> values =
      random.Make(static_cast<size_t>(shape.num_outputs) * shape.num_inputs, scale);
  bytes_.push_back(0);
  for (const float value : values) PutAs(dtype, value, bytes_);
  source_ = {.dtype = dtype,
             .data = bytes_.data() + 1,
             .num_outputs = shape.num_outputs,
             .num_inputs = shape.num_inputs};
  if (dtype != DType::kFp8E4m3) return;
  scales_ = random.Make(CeilDivide(shape.num_outputs, shape.scale_block_outputs) *
                        CeilDivide(shape.num_inputs, shape.scale_block_inputs));
  source_.scales = scales_.data();
  source_.scale_block_outputs = shape.scale_block_outputs;
  source_.scale_block_inputs = shape.scale_block_inputs;
}

double TestWeight::Value(ProductFormat format, int output, int input) const {
  const float stored = Stored(source_.dtype, bytes_.data() + 1,
                              static_cast<int64_t>(output) * source_.num_inputs + input);
  if (source_.dtype != DType::kFp8E4m3) return Enter(format, stored);
  const int per_row = CeilDivide(source_.num_inputs, source_.scale_block_inputs);
  const int row = output / source_.scale_block_outputs;
  return static_cast<double>(stored) * scales_[row * per_row + input / source_.scale_block_inputs];
}

std::vector<double> EnterFp8(const float* row, int num) {
  std::vector<double> values(num);
  for (int begin = 0; begin < num; begin += 128) {
    const int end = std::min(begin + 128, num);
    float largest = 1e-4f;
    for (int i = begin; i < end; ++i) largest = std::max(largest, std::fabs(row[i]));
    const float scale = largest / 448.0f;
    for (int i = begin; i < end; ++i) {
      values[i] = static_cast<double>(Fp8E4m3ToF32(F32ToFp8E4m3(row[i] / scale))) * scale;
    }
  }
  return values;
}

testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) {
    return testing::AssertionFailure() << a.size() << " values against " << b.size();
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i])) continue;
    return testing::AssertionFailure() << "value " << i << ": " << testing::PrintToString(a[i])
                                       << " against " << testing::PrintToString(b[i]);
  }
  return testing::AssertionSuccess();
}

}  // namespace orrery
