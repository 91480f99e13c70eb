// What the conformance tests share: the implementations that are tested, random matrices and weights. The formulas they are compared with stand in the tests, in f64.
#ifndef ORRERY_KERNELS_CONFORMANCE_KERNELS_TESTING_H_
#define ORRERY_KERNELS_CONFORMANCE_KERNELS_TESTING_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/dtypes.h"
#include "base/matrix.h"
#include "base/status.h"
#include "kernels/kernels.h"

namespace orrery {

// Rounding of one f32 operation, relative to its result.
inline constexpr double kF32Unit = 0x1p-24;
inline constexpr double kBf16Unit = 0x1p-8;

struct Implementation {
  std::string name;
  // UNAVAILABLE: this machine has no such hardware; then its tests are skipped, and say so.
  std::function<absl::StatusOr<std::unique_ptr<Kernels>>()> make;

  std::unique_ptr<Kernels> Make() const;  // must be there
};
inline void PrintTo(const Implementation& implementation, std::ostream* out) {
  *out << implementation.name;
}

// Those of the library that the suite is linked with: host_implementations here, others in tests/cuda.
std::vector<Implementation> AllImplementations();

class KernelsConformance : public testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override;

  std::unique_ptr<Kernels> kernels_;
};

#define ORRERY_INSTANTIATE_FOR_ALL_KERNELS(suite)          \
  INSTANTIATE_TEST_SUITE_P(                                \
      All, suite, testing::ValuesIn(AllImplementations()), \
      [](const testing::TestParamInfo<Implementation>& info) { return info.param.name; })

// Normally distributed values times scale; the same in every run, unless GoogleTest shuffles (--gtest_shuffle): then
// they also follow from the seed that it prints, and --gtest_random_seed repeats them.
class RandomValues {
 public:
  explicit RandomValues(uint32_t seed);
  std::vector<float> Make(size_t num, float scale = 1.0f);

 private:
  std::mt19937 engine_;
};

// A matrix whose rows lie further apart than they are long. The gaps hold NaN, and
// GapsAreUntouched() says whether they still do.
class TestMatrix {
 public:
  TestMatrix(int64_t num_rows, int64_t num_cols, int64_t gap = 3);
  TestMatrix(int64_t num_rows, int64_t num_cols, const std::vector<float>& values, int64_t gap = 3);

  Matrix view() { return Matrix(values_.data(), num_rows_, num_cols_, num_cols_ + gap_); }
  std::vector<float> Values() const;  // without gaps
  bool GapsAreUntouched() const;

 private:
  int64_t num_rows_;
  int64_t num_cols_;
  int64_t gap_;
  std::vector<float> values_;
};

// A random weight as a checkpoint stores it, one byte off any alignment, and its values in f64 as
// they enter products.
class TestWeight {
 public:
  struct Shape {
    int num_outputs;
    int num_inputs;
    int scale_block_outputs = 32;  // fp8 only
    int scale_block_inputs = 32;
  };
  TestWeight(DType dtype, const Shape& shape, uint32_t seed, float scale = 1.0f);

  const WeightSource& source() const { return source_; }
  double Value(ProductFormat format, int output, int input) const;

 private:
  std::vector<uint8_t> bytes_;
  std::vector<float> scales_;
  WeightSource source_;
};

// What a product sees of an activation.
inline double Enter(ProductFormat format, float value) {
  return format == ProductFormat::kBf16 ? RoundToBf16(value) : value;
}

// The same of a row whose products are fp8: codes times scale, by groups of 128.
std::vector<double> EnterFp8(const float* row, int num);

// Rounding errors of a sum of num products in f32, in any order that the kernels use: a product
// passes at most num + 3 roundings. Multiplied by the sum of the absolute products.
inline double SumTolerance(int num, double absolute_sum) {
  return (num + 3) * kF32Unit * absolute_sum + 1e-37;
}

// Rounding errors of products of fp8 codes. Tensor cores add 32 products and the sum so far at a time, each cut off at
// some 14 bits of the largest (DeepSeek-V3 technical report, 3.3.2): 33 times 2^-13 of it at most, which is at most the
// absolute sum.
inline double Fp8SumTolerance(int num, double absolute_sum) {
  return 33 * 0x1p-13 * absolute_sum + SumTolerance(num, absolute_sum);
}

// Bits equal, and if not: where, and which values.
testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace orrery

#endif  // ORRERY_KERNELS_CONFORMANCE_KERNELS_TESTING_H_
