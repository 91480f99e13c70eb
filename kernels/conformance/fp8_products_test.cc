// Products of fp8 activations with fp8 weights (ProductFormat::kFp8): against the formula in f64, alone and in any
// batch, and refusals.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

constexpr ProductFormat kFp8 = ProductFormat::kFp8;

class Fp8Products : public KernelsConformance {
 protected:
  // Those that lack them say so.
  void SetUp() override {
    KernelsConformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const TestWeight any(DType::kFp8E4m3, {1, 1, 128, 128}, 1);
    const absl::Status status = kernels_->MakeWeight(any.source(), kFp8).status();
    if (status.ok()) return;
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    GTEST_SKIP() << "SKIPPED: " << status;
  }
  std::unique_ptr<Weight> MustMake(const TestWeight& weight) {
    absl::StatusOr<std::unique_ptr<Weight>> made = kernels_->MakeWeight(weight.source(), kFp8);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }
};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Fp8Products);

struct Case {
  TestWeight::Shape shape;
  int num_rows;
};

// Shapes and rows around every border that an implementation may have: 32, 64, 128 and 256.
TEST_P(Fp8Products, MatmulAgreesWithTheFormula) {
  for (const Case& c :
       {Case{{1, 1, 128, 128}, 1}, Case{{5, 33, 128, 128}, 3}, Case{{130, 300, 128, 128}, 9},
        Case{{128, 128, 128, 128}, 64}, Case{{70, 256, 48, 128}, 65}, Case{{33, 130, 1, 128}, 150},
        Case{{40, 40, 128, 128}, 300}, Case{{3, 5, 128, 128}, 0}}) {
    SCOPED_TRACE(testing::Message() << "[" << c.shape.num_outputs << ", " << c.shape.num_inputs
                                    << "], " << c.num_rows << " rows");
    const int num_outputs = c.shape.num_outputs, num_inputs = c.shape.num_inputs;
    const TestWeight weight(DType::kFp8E4m3, c.shape, 7);
    // A row of zeros, small ones, and ones whose groups differ a lot.
    std::vector<float> values = RandomValues(8).Make(c.num_rows * num_inputs);
    for (int i = 0; i < static_cast<int>(values.size()); ++i) {
      const int row = i / num_inputs;
      values[i] *= row % 4 == 1 ? 0.0f : row % 4 == 2 ? 1e-6f : i % num_inputs < 128 ? 1.0f : 30.0f;
    }
    TestMatrix x(c.num_rows, num_inputs, values);
    const std::vector<float> bias = RandomValues(9).Make(num_outputs);
    TestMatrix out(c.num_rows, num_outputs);
    const std::unique_ptr<Weight> made = MustMake(weight);
    kernels_->Matmul(x.view(), *made, bias.data(), out.view());
    EXPECT_TRUE(out.GapsAreUntouched());
    for (int r = 0; r < c.num_rows; ++r) {
      const std::vector<double> entered = EnterFp8(x.view().row(r), num_inputs);
      for (int o = 0; o < num_outputs; ++o) {
        double want = bias[o], absolute_sum = std::fabs(want);
        for (int i = 0; i < num_inputs; ++i) {
          const double product = entered[i] * weight.Value(kFp8, o, i);
          want += product;
          absolute_sum += std::fabs(product);
        }
        ASSERT_NEAR(out.view().row(r)[o], want, Fp8SumTolerance(num_inputs, absolute_sum))
            << "row " << r << ", output " << o;
      }
    }
  }
}

double Silu(double z) { return z / (1.0 + std::exp(-z)); }

// What enters down may be the next code, if a value lies near the middle of two: codes are 2^-3 of a value apart, or 2^-9
// of the group's scale.
TEST_P(Fp8Products, FeedForwardAgreesWithTheFormula) {
  constexpr int kWidth = 150, kInner = 140, kNumRows = 5;
  const TestWeight gate(DType::kFp8E4m3, {kInner, kWidth, 128, 128}, 1);
  const TestWeight up(DType::kFp8E4m3, {kInner, kWidth, 128, 128}, 2);
  const TestWeight down(DType::kFp8E4m3, {kWidth, kInner, 128, 128}, 3);
  TestMatrix x(kNumRows, kWidth, RandomValues(4).Make(kNumRows * kWidth, 0.01f));
  TestMatrix out(kNumRows, kWidth);
  kernels_->FeedForward(x.view(), *MustMake(gate), *MustMake(up), *MustMake(down), out.view());
  EXPECT_TRUE(out.GapsAreUntouched());
  for (int r = 0; r < kNumRows; ++r) {
    const std::vector<double> entered = EnterFp8(x.view().row(r), kWidth);
    std::vector<float> inner(kInner);
    std::vector<double> of_inner(kInner);  // tolerances
    for (int i = 0; i < kInner; ++i) {
      double gated = 0.0, raised = 0.0, gate_sum = 0.0, up_sum = 0.0;
      for (int j = 0; j < kWidth; ++j) {
        gated += entered[j] * gate.Value(kFp8, i, j);
        raised += entered[j] * up.Value(kFp8, i, j);
        gate_sum += std::fabs(entered[j] * gate.Value(kFp8, i, j));
        up_sum += std::fabs(entered[j] * up.Value(kFp8, i, j));
      }
      inner[i] = static_cast<float>(Silu(gated) * raised);
      // The slope of silu stays below 1.1.
      const double of_gate = Fp8SumTolerance(kWidth, gate_sum);
      const double of_up = Fp8SumTolerance(kWidth, up_sum);
      of_inner[i] = 1.1 * of_gate * (std::fabs(raised) + of_up) + std::fabs(Silu(gated)) * of_up +
                    8 * kF32Unit * std::fabs(inner[i]);
    }
    const std::vector<double> inner_entered = EnterFp8(inner.data(), kInner);
    for (int begin = 0; begin < kInner; begin += 128) {
      double largest = 0.0;
      for (int i = begin; i < std::min(begin + 128, kInner); ++i) {
        largest = std::max<double>(largest, std::fabs(inner[i]));
      }
      for (int i = begin; i < std::min(begin + 128, kInner); ++i) {
        of_inner[i] += 0x1p-3 * std::fabs(inner[i]) + 0x1p-9 * largest / 448;
      }
    }
    for (int o = 0; o < kWidth; ++o) {
      double want = 0.0, absolute_sum = 0.0, tolerance = 0.0;
      for (int i = 0; i < kInner; ++i) {
        const double w = down.Value(kFp8, o, i);
        want += inner_entered[i] * w;
        absolute_sum += std::fabs(inner_entered[i] * w);
        tolerance += of_inner[i] * std::fabs(w);
      }
      ASSERT_NEAR(out.view().row(r)[o], want, tolerance + Fp8SumTolerance(kInner, absolute_sum))
          << "row " << r << ", output " << o;
    }
  }
}

// Of one group in, which carries a power of two: every step is exact, so the result is too, and codes of down cannot hide
// an error within a rounding.
TEST_P(Fp8Products, FeedForwardIsExactWhereItsStepsAre) {
  constexpr int kWidth = 128, kInner = 256;
  // gate(x) = 40, where silu is the identity to the last bit; up(x)[i] = 2^(i % 7); down adds them up per row of ones.
  std::vector<uint8_t> ones(kInner * kWidth, F32ToFp8E4m3(0.0f)), powers(ones), sums(ones);
  for (int i = 0; i < kInner; ++i) {
    ones[i * kWidth] = F32ToFp8E4m3(40.0f);
    powers[i * kWidth] = F32ToFp8E4m3(static_cast<float>(1 << i % 7));
  }
  for (int o = 0; o < kWidth; ++o)
    sums[o * kInner + o] = sums[o * kInner + kInner - 1 - o] = F32ToFp8E4m3(1.0f);
  const std::vector<float> scales(4, 1.0f);
  const auto make = [&](const std::vector<uint8_t>& codes, int num_outputs, int num_inputs) {
    return *kernels_->MakeWeight({.dtype = DType::kFp8E4m3,
                                  .data = codes.data(),
                                  .num_outputs = num_outputs,
                                  .num_inputs = num_inputs,
                                  .scales = scales.data(),
                                  .scale_block_outputs = 128,
                                  .scale_block_inputs = 128},
                                 kFp8);
  };
  const auto gate = make(ones, kInner, kWidth), up = make(powers, kInner, kWidth);
  const auto down = make(sums, kWidth, kInner);
  // 448 codes to 448 with scale 1; gate is then 40 * 448, up 448 * 2^k.
  TestMatrix x(2, kWidth);
  for (int i = 0; i < kWidth; ++i) x.view().row(0)[i] = x.view().row(1)[i] = i == 0 ? 448.0f : 0.0f;
  TestMatrix out(2, kWidth);
  kernels_->FeedForward(x.view(), *gate, *up, *down, out.view());
  // The largest of a group is 64 * 448 * 40 * 448, so its scale is 64 * 40 * 448, and 2^k is code 448 / 2^(6 - k).
  for (int r = 0; r < 2; ++r) {
    for (int o = 0; o < kWidth; ++o) {
      const double unit = 40.0 * 448 * 448;
      EXPECT_EQ(out.view().row(r)[o], (1 << o % 7) * unit + (1 << (kInner - 1 - o) % 7) * unit)
          << r << ", " << o;
    }
  }
}

std::vector<float> RowsOf(TestMatrix& matrix, int begin, int num) {
  const Matrix rows = matrix.view().Rows(begin, num);
  std::vector<float> values;
  for (int r = 0; r < num; ++r)
    values.insert(values.end(), rows.row(r), rows.row(r) + rows.num_cols);
  return values;
}

// Alone, in any batch and beside others: the same bits.
TEST_P(Fp8Products, ARowDependsOnNoOther) {
  constexpr int kWidth = 150, kInner = 140, kNumRows = 270;
  const auto gate = MustMake(TestWeight(DType::kFp8E4m3, {kInner, kWidth, 128, 128}, 1));
  const auto up = MustMake(TestWeight(DType::kFp8E4m3, {kInner, kWidth, 128, 128}, 2));
  const auto down = MustMake(TestWeight(DType::kFp8E4m3, {kWidth, kInner, 128, 128}, 3));
  TestMatrix x(kNumRows, kWidth, RandomValues(4).Make(kNumRows * kWidth));
  TestMatrix product(kNumRows, kInner), passed(kNumRows, kWidth);
  kernels_->Matmul(x.view(), *gate, nullptr, product.view());
  kernels_->FeedForward(x.view(), *gate, *up, *down, passed.view());
  for (const auto& [begin, num] :
       {std::pair(0, 1), std::pair(63, 1), std::pair(64, 2), std::pair(127, 1), std::pair(200, 7),
        std::pair(255, 1), std::pair(256, 14), std::pair(3, 65), std::pair(100, 129)}) {
    SCOPED_TRACE(testing::Message() << num << " rows from " << begin);
    TestMatrix some_product(num, kInner), some_passed(num, kWidth);
    kernels_->Matmul(x.view().Rows(begin, num), *gate, nullptr, some_product.view());
    kernels_->FeedForward(x.view().Rows(begin, num), *gate, *up, *down, some_passed.view());
    EXPECT_TRUE(SameBits(some_product.Values(), RowsOf(product, begin, num)));
    EXPECT_TRUE(SameBits(some_passed.Values(), RowsOf(passed, begin, num)));
  }
  TestMatrix other(40, kWidth, RandomValues(6).Make(40 * kWidth));
  TestMatrix other_out(40, kWidth), again(kNumRows, kWidth);
  kernels_->FeedForward(std::vector<FeedForwardArgs>{
      {other.view(), up.get(), gate.get(), down.get(), other_out.view()},
      {x.view(), gate.get(), up.get(), down.get(), again.view()}});
  EXPECT_TRUE(SameBits(again.Values(), passed.Values()));
}

TEST_P(Fp8Products, AnImageMultipliesAsItsWeightDoes) {
  const auto made = MustMake(TestWeight(DType::kFp8E4m3, {70, 300, 128, 128}, 1));
  const auto mapped = kernels_->MapWeight(*made->Image());
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  TestMatrix x(3, 300, RandomValues(4).Make(3 * 300)), want(3, 70), got(3, 70);
  kernels_->Matmul(x.view(), *made, nullptr, want.view());
  kernels_->Matmul(x.view(), **mapped, nullptr, got.view());
  EXPECT_TRUE(SameBits(got.Values(), want.Values()));
}

TEST_P(Fp8Products, RefuseWeightsThatAreNotMadeForThem) {
  const auto refuses = [&](const TestWeight& weight, WeightFormat held, const char* why) {
    const absl::Status status = kernels_->MakeWeight(weight.source(), kFp8, held).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_NE(std::string(status.message()).find(why), std::string::npos) << status;
  };
  refuses(TestWeight(DType::kBf16, {8, 128}, 1), WeightFormat::kStored, "this one is bf16");
  refuses(TestWeight(DType::kFp8E4m3, {8, 128, 128, 128}, 1), WeightFormat::kInt8,
          "to be quantised");
  refuses(TestWeight(DType::kFp8E4m3, {8, 128, 128, 64}, 1), WeightFormat::kStored,
          "per 128 inputs");
}

}  // namespace
}  // namespace orrery
