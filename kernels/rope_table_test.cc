#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/kernels.h"

namespace orrery {
namespace {

// Rounding f64 values that are within 1e-15 gives the same f32 unless they straddle a tie: half a
// unit of 1.0 and a little.
constexpr double kTolerance = 0x1p-25 + 1e-12;

TEST(RopeTable, AgreesWithTheMathLibraryAtEveryAngle) {
  const std::vector<double> frequencies = {1.0, 0.73, 1e-4, 1.2204, 0.0};
  constexpr int kNumPositions = 163840;
  std::vector<float> cos(kNumPositions * frequencies.size());
  std::vector<float> sin(cos.size());
  MakeRopeTable(frequencies, kNumPositions, cos.data(), sin.data());
  size_t num_other_bits = 0;
  for (int position = 0; position < kNumPositions; ++position) {
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double angle = position * frequencies[i];
      const size_t at = position * frequencies.size() + i;
      ASSERT_NEAR(cos[at], std::cos(angle), kTolerance) << "angle " << angle;
      ASSERT_NEAR(sin[at], std::sin(angle), kTolerance) << "angle " << angle;
      num_other_bits += cos[at] != static_cast<float>(std::cos(angle));
      num_other_bits += sin[at] != static_cast<float>(std::sin(angle));
    }
  }
  // A tie is straddled about once in 2^29 / 10 values at an error of 1e-15.
  EXPECT_LE(num_other_bits, 2u);
}

TEST(RopeTable, IsExactWhereTheAngleIsZero) {
  std::vector<float> cos(3, -1.0f);
  std::vector<float> sin(3, -1.0f);
  MakeRopeTable(std::vector<double>{0.0}, 3, cos.data(), sin.data());
  EXPECT_EQ(cos, std::vector<float>(3, 1.0f));
  EXPECT_EQ(sin, std::vector<float>(3, 0.0f));
}

TEST(RopeTable, SaysNanBeyondWhatItReduces) {
  float cos = 0.0f;
  float sin = 0.0f;
  std::vector<float> two_cos(2);
  std::vector<float> two_sin(2);
  MakeRopeTable(std::vector<double>{1e300}, 2, two_cos.data(), two_sin.data());
  EXPECT_TRUE(std::isnan(two_cos[1]) && std::isnan(two_sin[1]));
  MakeRopeTable(std::vector<double>{std::numeric_limits<double>::infinity()}, 1, &cos, &sin);
  EXPECT_TRUE(std::isnan(cos) && std::isnan(sin));
}

TEST(RopeTable, MayBeEmpty) {
  MakeRopeTable({}, 5, nullptr, nullptr);
  MakeRopeTable(std::vector<double>{1.0}, 0, nullptr, nullptr);
}

}  // namespace
}  // namespace orrery
