// The row-wise operations of every implementation against their formulas in f64.

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

class Elementwise : public KernelsConformance {};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Elementwise);

constexpr int kWidths[] = {1, 3, 15, 16, 17, 31, 33, 100, 257};

TEST_P(Elementwise, EmbedPicksRowsOfBothTypes) {
  for (int width : kWidths) {
    const std::vector<float> values = RandomValues(1).Make(5 * width);
    std::vector<uint16_t> halves;
    for (float value : values) halves.push_back(F32ToBf16(value));
    const std::vector<int32_t> ids = {4, 0, 4};
    TestMatrix from_f32(3, width);
    TestMatrix from_bf16(3, width);
    kernels_->Embed(DType::kF32, values.data(), ids, from_f32.view());
    kernels_->Embed(DType::kBf16, halves.data(), ids, from_bf16.view());
    for (int r = 0; r < 3; ++r) {
      for (int i = 0; i < width; ++i) {
        const float value = values[ids[r] * width + i];
        EXPECT_EQ(from_f32.view().row(r)[i], value);
        EXPECT_EQ(from_bf16.view().row(r)[i], RoundToBf16(value));
      }
    }
    EXPECT_TRUE(from_f32.GapsAreUntouched() && from_bf16.GapsAreUntouched());
  }
  TestMatrix none(0, 4);
  kernels_->Embed(DType::kF32, nullptr, {}, none.view());
}

TEST_P(Elementwise, RmsNormAgreesWithTheFormulaAlsoInPlace) {
  for (int width : kWidths) {
    for (int num_rows : {0, 1, 3}) {
      RandomValues random(width);
      TestMatrix x(num_rows, width, random.Make(num_rows * width, 3.0f));
      const std::vector<float> before = x.Values();
      const std::vector<float> weight = random.Make(width);
      const float eps = 1e-5f;
      TestMatrix out(num_rows, width);
      kernels_->RmsNorm(x.view(), weight.data(), eps, out.view());
      for (int r = 0; r < num_rows; ++r) {
        double sum = 0.0;
        for (int i = 0; i < width; ++i) {
          sum += static_cast<double>(before[r * width + i]) * before[r * width + i];
        }
        for (int i = 0; i < width; ++i) {
          const double want = weight[i] * (before[r * width + i] / std::sqrt(sum / width + eps));
          ASSERT_NEAR(out.view().row(r)[i], want, (width + 8) * kF32Unit * std::fabs(want) + 1e-37);
        }
      }
      EXPECT_TRUE(out.GapsAreUntouched());
      kernels_->RmsNorm(x.view(), weight.data(), eps, x.view());
      EXPECT_TRUE(SameBits(x.Values(), out.Values()));
    }
  }
}

TEST_P(Elementwise, RmsNormOfZerosIsZero) {
  TestMatrix x(1, 20, std::vector<float>(20, 0.0f));
  kernels_->RmsNorm(x.view(), std::vector<float>(20, 2.0f).data(), 1e-6f, x.view());
  EXPECT_EQ(x.Values(), std::vector<float>(20, 0.0f));
}

TEST_P(Elementwise, RopeRotatesThePairsOfBothKindsAndNothingElse) {
  constexpr int kNumPositions = 12;
  for (int dim : {2, 6, 32, 34, 64}) {
    const int num_pairs = dim / 2;
    std::vector<double> frequencies;
    for (int i = 0; i < num_pairs; ++i) frequencies.push_back(std::pow(10000.0, -2.0 * i / dim));
    std::vector<float> cos(kNumPositions * num_pairs);
    std::vector<float> sin(kNumPositions * num_pairs);
    MakeRopeTable(frequencies, kNumPositions, cos.data(), sin.data());
    const RopeTable table = {cos.data(), sin.data(), kNumPositions, dim};
    for (RopePairing pairing : {RopePairing::kInterleaved, RopePairing::kHalfSplit}) {
      const int num_heads = 3;
      const int head_stride = dim + 5;
      const int width = num_heads * head_stride;
      TestMatrix x(4, width, RandomValues(dim).Make(4 * width));
      const std::vector<float> before = x.Values();
      kernels_->Rope(x.view(), num_heads, head_stride, /*first_position=*/7, pairing, table);
      EXPECT_TRUE(x.GapsAreUntouched());
      std::vector<double> want(before.begin(), before.end());
      for (int r = 0; r < 4; ++r) {
        for (int h = 0; h < num_heads; ++h) {
          for (int i = 0; i < num_pairs; ++i) {
            const bool interleaved = pairing == RopePairing::kInterleaved;
            const int a = r * width + h * head_stride + (interleaved ? 2 * i : i);
            const int b = interleaved ? a + 1 : a + num_pairs;
            const double angle = (7 + r) * frequencies[i];
            want[a] = before[a] * std::cos(angle) - before[b] * std::sin(angle);
            want[b] = before[a] * std::sin(angle) + before[b] * std::cos(angle);
          }
        }
      }
      const std::vector<float> after = x.Values();
      for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(after[i], want[i], 32 * kF32Unit);
    }
  }
}

TEST_P(Elementwise, AddAndCopyWalkStridedViews) {
  for (int width : kWidths) {
    for (int num_rows : {0, 1, 3}) {
      RandomValues random(width);
      TestMatrix x(num_rows, width, random.Make(num_rows * width));
      TestMatrix y(num_rows, width, random.Make(num_rows * width), /*gap=*/5);
      std::vector<float> want = x.Values();
      for (size_t i = 0; i < want.size(); ++i) want[i] += y.Values()[i];
      kernels_->Add(y.view(), x.view());
      EXPECT_TRUE(SameBits(x.Values(), want));
      kernels_->Copy(x.view(), y.view());
      EXPECT_TRUE(SameBits(y.Values(), want));
      EXPECT_TRUE(x.GapsAreUntouched() && y.GapsAreUntouched());
    }
  }
}

TEST_P(Elementwise, WeightedSumAgreesWithTheFormula) {
  for (int topk : {1, 2, 8}) {
    for (int width : kWidths) {
      for (int num_rows : {0, 1, 3}) {
        RandomValues random(topk);
        TestMatrix rows(num_rows * topk, width, random.Make(num_rows * topk * width));
        const std::vector<float> weights = random.Make(num_rows * topk);
        TestMatrix out(num_rows, width);
        kernels_->WeightedSum(rows.view(), weights.data(), topk, out.view());
        for (int r = 0; r < num_rows; ++r) {
          for (int i = 0; i < width; ++i) {
            double want = 0.0;
            double absolute_sum = 0.0;
            for (int j = r * topk; j < (r + 1) * topk; ++j) {
              const double product = static_cast<double>(weights[j]) * rows.view().row(j)[i];
              want += product;
              absolute_sum += std::fabs(product);
            }
            ASSERT_NEAR(out.view().row(r)[i], want, SumTolerance(topk, absolute_sum));
          }
        }
        EXPECT_TRUE(out.GapsAreUntouched());
      }
    }
  }
}

TEST_P(Elementwise, LogSoftmaxAgreesWithTheFormulaAlsoInPlace) {
  for (int width : {1, 2, 16, 17, 100, 5000}) {
    for (float scale : {0.1f, 5.0f, 60.0f}) {
      TestMatrix x(2, width, RandomValues(width).Make(2 * width, scale));
      const std::vector<float> before = x.Values();
      TestMatrix out(2, width);
      kernels_->LogSoftmax(x.view(), out.view());
      for (int r = 0; r < 2; ++r) {
        const float* row = before.data() + r * width;
        const double max = *std::max_element(row, row + width);
        double sum = 0.0;
        for (int i = 0; i < width; ++i) sum += std::exp(row[i] - max);
        for (int i = 0; i < width; ++i) {
          const double want = row[i] - max - std::log(sum);
          // The sum's relative error is the log's absolute one; then two subtractions.
          const double tolerance =
              (width / 16 + 12) * kF32Unit + 3 * kF32Unit * (std::fabs(want) + std::log(sum));
          ASSERT_NEAR(out.view().row(r)[i], want, tolerance) << "width " << width;
        }
      }
      EXPECT_TRUE(out.GapsAreUntouched());
      kernels_->LogSoftmax(x.view(), x.view());
      EXPECT_TRUE(SameBits(x.Values(), out.Values()));
    }
  }
}

}  // namespace
}  // namespace orrery
