#include "kernels/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/dtypes.h"

namespace orrery {
namespace {

TEST(Quantize, KeepsEveryValueWithinHalfAStepOrTheRoundingOfTheScale) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const WeightFormat name : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    const QuantFormat& format = *QuantFormatOf(name);
    for (int round = 0; round < 200; ++round) {
      std::vector<float> values(1 + random() % format.block_inputs);
      for (float& value : values) value = normal(random) * std::ldexp(1.0f, round % 60 - 30);
      std::vector<int8_t> codes(values.size());
      const float scale = Bf16ToF32(QuantizeBlock(format, values, codes.data()));
      for (size_t i = 0; i < values.size(); ++i) {
        EXPECT_LE(std::abs(codes[i]), format.max_code);
        // Half a step; and for the largest code, what the bf16 scale is short by: 2^-9 of the value.
        EXPECT_LE(std::fabs(values[i] - codes[i] * scale),
                  std::max(0.5f * scale, std::fabs(values[i]) * 0x1p-8f) * 1.0001f);
      }
    }
  }
}

TEST(Quantize, GivesTheLargestValueTheLargestCodeAndZerosNothing) {
  const QuantFormat& format = *QuantFormatOf(WeightFormat::kInt4);
  std::vector<int8_t> codes(3);
  EXPECT_EQ(Bf16ToF32(QuantizeBlock(format, {-14.0f, 3.0f, 5.0f}, codes.data())), 2.0f);
  EXPECT_EQ(codes, (std::vector<int8_t>{-7, 2, 2}));  // 1.5 and 2.5 go to the even code
  EXPECT_EQ(QuantizeBlock(format, {0.0f, -0.0f, 1e-40f}, codes.data()), 0);
  EXPECT_EQ(codes, (std::vector<int8_t>{0, 0, 0}));
}

TEST(Quantize, TakesTheScalesOfFp8In) {
  // 1.0 is code 0x38. Two blocks of two inputs for two outputs each.
  const std::vector<uint8_t> stored(4 * 4, 0x38);
  const std::vector<float> scales = {1.0f, 2.0f, 4.0f, 8.0f};
  const WeightSource source = {.dtype = DType::kFp8E4m3,
                               .data = stored.data(),
                               .num_outputs = 4,
                               .num_inputs = 4,
                               .scales = scales.data(),
                               .scale_block_outputs = 2,
                               .scale_block_inputs = 2};
  QuantizedRow row;
  ASSERT_TRUE(QuantizeOutput(source, 2, *QuantFormatOf(WeightFormat::kInt4), row).ok());
  // 4, 4, 8, 8: the scale is 8 / 7 in bf16, and 4 of it are 3.5 codes.
  EXPECT_EQ(row.codes, (std::vector<int8_t>{4, 4, 7, 7}));
  ASSERT_EQ(row.scales.size(), 1u);
  EXPECT_NEAR(Bf16ToF32(row.scales[0]), 8.0f / 7.0f, 0.005f);
}

TEST(Quantize, RefusesWhatIsNotFinite) {
  const std::vector<float> values = {1.0f, std::numeric_limits<float>::infinity()};
  const WeightSource source = {
      .dtype = DType::kF32, .data = values.data(), .num_outputs = 1, .num_inputs = 2};
  QuantizedRow row;
  const absl::Status status = QuantizeOutput(source, 0, *QuantFormatOf(WeightFormat::kInt8), row);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "output 0, input 1 is inf, which has no place on a scale");
}

}  // namespace
}  // namespace orrery
