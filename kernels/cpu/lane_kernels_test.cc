// The functions of our own over lanes: how far they are from the truth. That all tables agree is
// shown in kernels/conformance.

#include "kernels/cpu/lane_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cpu/cpu_variant.h"
#include "kernels/cpu/flush_denormals.h"

namespace orrery {
namespace {

// Difference from the truth in units of the last place of the (normal) true value.
double Ulps(float got, double want) {
  int exponent = 0;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, exponent - 24);
}

float Exp(const LaneKernels& lanes, float x) {
  const ScopedFlushDenormals flush;
  float result = 0.0f;
  lanes.sum_exp(&x, 0.0f, 1, &result);
  return result;
}

TEST(LaneMath, ExpIsWithinTwoUlpWhereverItsResultIsNormal) {
  const LaneKernels& lanes = **LaneKernelsFor(CpuVariant::kBest);
  double worst = 0.0;
  std::vector<float> x(16);
  std::vector<float> result(16);
  // Some two million arguments, evenly spread over -87.3 .. 88.7, and the neighbourhood of zero.
  for (int step = 0; step < (1 << 17); ++step) {
    for (int i = 0; i < 16; ++i) {
      x[i] = -87.33f + 176.05f * (step * 16 + i) / static_cast<float>(1 << 21);
      if (i == 15) x[i] = std::ldexp(x[i], -(step % 40));
    }
    const ScopedFlushDenormals flush;
    lanes.sum_exp(x.data(), 0.0f, 16, result.data());
    for (int i = 0; i < 16; ++i) {
      worst = std::max(worst, Ulps(result[i], std::exp(static_cast<double>(x[i]))));
    }
  }
  EXPECT_LE(worst, 2.0);
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST(LaneMath, ExpKnowsItsEnds) {
  const LaneKernels& lanes = **LaneKernelsFor(CpuVariant::kBest);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Exp(lanes, 0.0f), 1.0f);
  EXPECT_EQ(Exp(lanes, -infinity), 0.0f);
  EXPECT_EQ(Exp(lanes, -104.0f), 0.0f);
  EXPECT_EQ(Exp(lanes, -3e38f), 0.0f);
  EXPECT_EQ(Exp(lanes, 88.73f), infinity);
  EXPECT_EQ(Exp(lanes, 3e38f), infinity);
  EXPECT_LT(Exp(lanes, 88.72f), infinity);
  EXPECT_TRUE(std::isnan(Exp(lanes, std::numeric_limits<float>::quiet_NaN())));
}

TEST(LaneMath, SigmoidIsAccurateAndSaturates) {
  const LaneKernels& lanes = **LaneKernelsFor(CpuVariant::kBest);
  for (float x = -80.0f; x < 100.0f; x += 0.037f) {
    float result = 0.0f;
    lanes.sigmoid(&x, 1, &result);
    ASSERT_LE(Ulps(result, 1.0 / (1.0 + std::exp(-static_cast<double>(x)))), 4.0) << x;
  }
  for (float x : {-1000.0f, 1000.0f}) {
    float result = 0.5f;
    lanes.sigmoid(&x, 1, &result);
    EXPECT_EQ(result, x < 0 ? 0.0f : 1.0f);
  }
}

TEST(LaneKernels, SumsAndMaximaIgnoreWhatLiesBehindTheEnd) {
  const LaneKernels& lanes = **LaneKernelsFor(CpuVariant::kBest);
  std::vector<float> x(40, 1e30f);
  for (int num : {1, 15, 16, 17, 33}) {
    std::fill_n(x.begin(), num, -2.0f);
    EXPECT_EQ(lanes.max_value(x.data(), num), -2.0f);
    EXPECT_EQ(lanes.sum_exp(x.data(), -2.0f, num, nullptr), static_cast<float>(num));
  }
}

}  // namespace
}  // namespace orrery
