// sin and cos in f64, of our own: a math library may change its last bit between versions, and the
// tables are part of the numerics.

#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/kernels.h"

namespace orrery {
namespace {

struct SinCos {
  double sin;
  double cos;
};

// pi/2 in parts of 33 bits: num_quarters * part is exact for num_quarters < 2^20 (angles to 1.6
// million).
constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
constexpr double kHalfPi1 = 0x1.921fb544p+0;
constexpr double kHalfPi2 = 0x1.0b4611a6p-34;
constexpr double kHalfPi3 = 0x1.3198a2e037073p-69;

// Far beyond any position; up to here the quarter still fits an int.
constexpr double kLargestAngle = 0x1p30;

// sum of (-1)^k x^2k / (2k + offset)! for k < num_terms, innermost term first.
double AlternatingSeries(double x_squared, int offset, int num_terms) {
  double sum = 1.0;
  for (int k = num_terms - 1; k >= 1; --k) {
    const double step = (2 * k - 1 + offset) * (2 * k + offset);
    sum = 1.0 - x_squared / step * sum;
  }
  return sum;
}

// |x| <= pi/4: the first term left out is below 0.7854^18 / 18! = 2e-18 (cos), 0.7854^19 / 19!
// (sin).
SinCos SmallAngle(double x) {
  constexpr int kNumTerms = 9;
  const double x_squared = x * x;
  return {x * AlternatingSeries(x_squared, 1, kNumTerms),
          AlternatingSeries(x_squared, 0, kNumTerms)};
}

SinCos Evaluate(double angle) {
  if (!(std::fabs(angle) <= kLargestAngle)) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan};
  }
  const double num_quarters = std::floor(angle * kTwoOverPi + 0.5);
  const double rest =
      ((angle - num_quarters * kHalfPi1) - num_quarters * kHalfPi2) - num_quarters * kHalfPi3;
  const SinCos small = SmallAngle(rest);
  switch (static_cast<int>(num_quarters) & 3) {
    case 0:
      return small;
    case 1:
      return {small.cos, -small.sin};
    case 2:
      return {-small.sin, -small.cos};
    default:
      return {-small.cos, small.sin};
  }
}

}  // namespace

void MakeRopeTable(absl::Span<const double> inverse_frequencies, int num_positions, float* cos,
                   float* sin) {
  ORRERY_CHECK(num_positions >= 0) << num_positions;
  size_t index = 0;
  for (int position = 0; position < num_positions; ++position) {
    for (const double frequency : inverse_frequencies) {
      const SinCos value = Evaluate(position * frequency);
      cos[index] = static_cast<float>(value.cos);
      sin[index] = static_cast<float>(value.sin);
      ++index;
    }
  }
}

}  // namespace orrery
