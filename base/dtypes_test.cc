#include "base/dtypes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace orrery {
namespace {

TEST(Bf16, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = Bf16ToF32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(value))));
    } else {
      EXPECT_EQ(F32ToBf16(value), bits);
    }
  }
}

TEST(Bf16, HalfwayGoesToEven) {
  EXPECT_EQ(RoundToBf16(1.0f + 0x1p-8f), 1.0f);
  EXPECT_EQ(RoundToBf16(1.0f + 3 * 0x1p-8f), 1.0f + 0x1p-6f);
}

TEST(F16, KnownValues) {
  EXPECT_EQ(F16ToF32(0x3c00), 1.0f);
  EXPECT_EQ(F16ToF32(0xc000), -2.0f);
  EXPECT_EQ(F16ToF32(0x0001), 0x1p-24f);
  EXPECT_EQ(F16ToF32(0x7bff), 65504.0f);
  EXPECT_TRUE(std::isinf(F16ToF32(0x7c00)));
  EXPECT_TRUE(std::isnan(F16ToF32(0x7e00)));
}

TEST(Fp8E4m3, EveryCodeSurvivesTheRoundTrip) {
  for (int code = 0; code < 256; ++code) {
    const float value = Fp8E4m3ToF32(static_cast<uint8_t>(code));
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value));
      continue;
    }
    EXPECT_EQ(F32ToFp8E4m3(value), code) << value;
  }
}

// Between two neighbouring codes the nearer one is taken, and exactly halfway the even one.
TEST(Fp8E4m3, RoundsToNearestEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const float low = Fp8E4m3ToF32(static_cast<uint8_t>(code));
    const float high = Fp8E4m3ToF32(static_cast<uint8_t>(code + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(F32ToFp8E4m3(middle), code % 2 == 0 ? code : code + 1) << middle;
    EXPECT_EQ(F32ToFp8E4m3(std::nextafter(middle, 0.0f)), code) << middle;
    EXPECT_EQ(F32ToFp8E4m3(std::nextafter(middle, 1000.0f)), code + 1) << middle;
  }
}

TEST(Fp8E4m3, SaturatesAndKeepsNan) {
  EXPECT_EQ(F32ToFp8E4m3(1e30f), 0x7e);
  EXPECT_EQ(F32ToFp8E4m3(-std::numeric_limits<float>::infinity()), 0xfe);
  EXPECT_EQ(F32ToFp8E4m3(std::numeric_limits<float>::quiet_NaN()), 0x7f);
}

}  // namespace
}  // namespace orrery
