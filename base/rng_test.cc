#include "base/rng.h"

#include <gtest/gtest.h>

#include <cmath>

namespace orrery {
namespace {

TEST(PortableLog, AgreesWithTheMathLibrary) {
  for (double x = 1e-300; x < 1e300; x *= 1.37) {
    EXPECT_NEAR(PortableLog(x), std::log(x), 4e-16 * std::abs(std::log(x)) + 1e-16) << x;
  }
}

TEST(UniformDraw, DependsOnEveryPartOfTheKey) {
  const DrawKey key = {.seed = 1, .choice = 2, .position = 3, .draw = 4};
  EXPECT_EQ(UniformDraw(key), UniformDraw(key));
  for (DrawKey other : {DrawKey{2, 2, 3, 4}, DrawKey{1ull << 40, 2, 3, 4}, DrawKey{1, 3, 3, 4},
                        DrawKey{1, 2, 4, 4}, DrawKey{1, 2, 3, 5}}) {
    EXPECT_NE(UniformDraw(key), UniformDraw(other));
  }
}

// Known-answer vector of Philox 4x32-10 (Random123 distribution, kat_vectors): counter and key
// zero.
TEST(UniformDraw, IsPhilox) {
  const uint64_t bits = (uint64_t{0x6627e8d5} << 32 | 0xe169c58d) >> 11;
  EXPECT_EQ(UniformDraw({}), (static_cast<double>(bits) + 0.5) * 0x1p-53);
}

// Mean of the Gumbel distribution is Euler's constant, its variance pi^2 / 6.
TEST(GumbelDraw, HasTheRightMoments) {
  const int n = 100000;
  double sum = 0, sum2 = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const double x = GumbelDraw({.seed = 42, .choice = 0, .position = 0, .draw = i});
    sum += x;
    sum2 += x * x;
  }
  const double mean = sum / n;
  const double sigma = 3.14159265358979 / std::sqrt(6.0);
  EXPECT_NEAR(mean, 0.5772156649, 5 * sigma / std::sqrt(n));
  EXPECT_NEAR(sum2 / n - mean * mean, sigma * sigma, 0.05);
}

}  // namespace
}  // namespace orrery
