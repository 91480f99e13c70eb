// Matmul and FeedForward of every implementation against the formula in f64.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/conformance/kernels_testing.h"
#include "kernels/quantize.h"

namespace orrery {
namespace {

class Products : public KernelsConformance {
 protected:
  std::unique_ptr<Weight> MustMake(const TestWeight& weight, ProductFormat format) {
    absl::StatusOr<std::unique_ptr<Weight>> made = kernels_->MakeWeight(weight.source(), format);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  void CheckMatmul(const TestWeight& weight, ProductFormat format, int num_rows, bool with_bias);
};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Products);

void Products::CheckMatmul(const TestWeight& weight, ProductFormat format, int num_rows,
                           bool with_bias) {
  const int num_inputs = weight.source().num_inputs;
  const int num_outputs = weight.source().num_outputs;
  SCOPED_TRACE(testing::Message() << DTypeName(weight.source().dtype) << " [" << num_outputs << ", "
                                  << num_inputs << "], " << num_rows << " rows, format "
                                  << static_cast<int>(format));
  RandomValues random(num_inputs * 100 + num_rows);
  TestMatrix x(num_rows, num_inputs, random.Make(num_rows * num_inputs));
  const std::vector<float> bias = random.Make(num_outputs);
  TestMatrix out(num_rows, num_outputs);
  const std::unique_ptr<Weight> made = MustMake(weight, format);
  kernels_->Matmul(x.view(), *made, with_bias ? bias.data() : nullptr, out.view());
  EXPECT_TRUE(out.GapsAreUntouched());
  for (int r = 0; r < num_rows; ++r) {
    for (int o = 0; o < num_outputs; ++o) {
      double want = with_bias ? bias[o] : 0.0;
      double absolute_sum = std::fabs(want);
      for (int i = 0; i < num_inputs; ++i) {
        const double product = Enter(format, x.view().row(r)[i]) * weight.Value(format, o, i);
        want += product;
        absolute_sum += std::fabs(product);
      }
      ASSERT_NEAR(out.view().row(r)[o], want, SumTolerance(num_inputs, absolute_sum))
          << "row " << r << ", output " << o;
    }
  }
}

TEST_P(Products, MatmulAgreesWithTheFormulaForEverySizeTypeAndFormat) {
  for (DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kFp8E4m3}) {
    for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
      for (int num_outputs : {1, 3, 16, 17, 31, 33, 100}) {
        for (int num_inputs : {1, 3, 17, 31, 32, 33, 64, 100}) {
          const TestWeight weight(dtype, {num_outputs, num_inputs}, num_outputs);
          CheckMatmul(weight, format, /*num_rows=*/5, /*with_bias=*/num_inputs % 2 == 1);
        }
      }
    }
  }
}

TEST_P(Products, MatmulTakesAnyNumberOfRows) {
  const TestWeight weight(DType::kBf16, {70, 33}, 7);
  for (int num_rows : {0, 1, 2, 3, 4, 5, 6, 7, 8, 63, 64, 65, 130}) {
    CheckMatmul(weight, ProductFormat::kBf16, num_rows, /*with_bias=*/true);
  }
}

TEST_P(Products, MatmulAppliesTheScaleOfEachBlockRaggedOnesIncluded) {
  for (const TestWeight::Shape& shape :
       {TestWeight::Shape{200, 300, 128, 128}, TestWeight::Shape{40, 70, 16, 32},
        TestWeight::Shape{40, 200, 48, 96}, TestWeight::Shape{5, 7, 128, 128}}) {
    const TestWeight weight(DType::kFp8E4m3, shape, 11);
    CheckMatmul(weight, ProductFormat::kBf16, 3, /*with_bias=*/false);
    CheckMatmul(weight, ProductFormat::kF32, 3, /*with_bias=*/true);
  }
}

// The weight that is multiplied with is what quantising it gives, to the rounding of the sum.
TEST_P(Products, MatmulMultipliesWithTheCodesOfAQuantisedWeight) {
  for (const WeightFormat held : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    const QuantFormat& quant = *QuantFormatOf(held);
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kFp8E4m3}) {
      for (const auto& [num_outputs, num_inputs] :
           {std::pair(1, 1), std::pair(5, 33), std::pair(40, 300), std::pair(17, 128)}) {
        const TestWeight weight(dtype, {num_outputs, num_inputs, 16, 32}, 4);
        const std::unique_ptr<Weight> made =
            *kernels_->MakeWeight(weight.source(), ProductFormat::kBf16, held);
        for (const int num_rows : {1, 7}) {
          TestMatrix x(num_rows, num_inputs, RandomValues(5).Make(num_rows * num_inputs));
          TestMatrix out(num_rows, num_outputs);
          kernels_->Matmul(x.view(), *made, nullptr, out.view());
          QuantizedRow row;
          for (int o = 0; o < num_outputs; ++o) {
            ASSERT_TRUE(QuantizeOutput(weight.source(), o, quant, row).ok());
            for (int r = 0; r < num_rows; ++r) {
              double want = 0.0, absolute_sum = 0.0;
              for (int i = 0; i < num_inputs; ++i) {
                const double scale = Bf16ToF32(row.scales[i / quant.block_inputs]);
                const double product =
                    Enter(ProductFormat::kBf16, x.view().row(r)[i]) * row.codes[i] * scale;
                want += product;
                absolute_sum += std::fabs(product);
              }
              ASSERT_NEAR(out.view().row(r)[o], want, SumTolerance(num_inputs, absolute_sum))
                  << "row " << r << ", output " << o;
            }
          }
        }
      }
    }
  }
}

TEST_P(Products, WeightsKnowTheirShapeAndTheirMemory) {
  const TestWeight source(DType::kBf16, {17, 33}, 1);
  const std::unique_ptr<Weight> weight = MustMake(source, ProductFormat::kBf16);
  EXPECT_EQ(weight->num_outputs(), 17);
  EXPECT_EQ(weight->num_inputs(), 33);
  EXPECT_GE(weight->num_bytes(), 17u * 33u * 2u);
}

TEST_P(Products, MakeWeightRefusesWhatItCannotFollow) {
  const TestWeight fp8(DType::kFp8E4m3, {32, 32}, 1);
  const TestWeight f32(DType::kF32, {32, 32}, 1);
  auto refuses = [&](WeightSource source) {
    const absl::Status status = kernels_->MakeWeight(source, ProductFormat::kF32).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  };
  WeightSource source = fp8.source();
  source.scales = nullptr;
  refuses(source);
  source = fp8.source();
  source.scale_block_inputs = 0;
  refuses(source);
  source = f32.source();
  source.num_inputs = 0;
  refuses(source);
  source = f32.source();
  source.data = nullptr;
  refuses(source);
  source = f32.source();
  source.scales = fp8.source().scales;
  refuses(source);
}

// Each head is a Matmul of its slices, to the bit, and columns between slices stay as they are.
TEST_P(Products, MatmulHeadsIsMatmulSliceBySlice) {
  struct Case {
    int num_heads, num_inputs, x_head_stride, num_outputs, out_head_stride, num_rows;
  };
  for (const Case& c :
       {Case{6, 32, 48, 64, 80, 33}, Case{3, 17, 20, 5, 5, 1}, Case{1, 7, 0, 33, 0, 4},
        Case{2, 40, 40, 16, 19, 70}, Case{4, 8, 0, 3, 4, 2}, Case{2, 3, 3, 4, 4, 0}}) {
    std::vector<std::unique_ptr<Weight>> weights;
    for (int h = 0; h < c.num_heads; ++h) {
      const TestWeight weight(DType::kBf16, {c.num_outputs, c.num_inputs}, h);
      weights.push_back(MustMake(weight, ProductFormat::kBf16));
    }
    const int x_width = (c.num_heads - 1) * c.x_head_stride + c.num_inputs + 2;
    const int out_width = (c.num_heads - 1) * c.out_head_stride + c.num_outputs + 2;
    TestMatrix x(c.num_rows, x_width, RandomValues(1).Make(c.num_rows * x_width));
    const std::vector<float> before(c.num_rows * out_width, 0.5f);
    TestMatrix out(c.num_rows, out_width, before);
    TestMatrix want(c.num_rows, out_width, before);
    kernels_->MatmulHeads(x.view(), c.x_head_stride, weights, out.view(), c.out_head_stride);
    for (int h = 0; h < c.num_heads; ++h) {
      kernels_->Matmul(x.view().Columns(h * c.x_head_stride, c.num_inputs), *weights[h], nullptr,
                       want.view().Columns(h * c.out_head_stride, c.num_outputs));
    }
    EXPECT_TRUE(SameBits(out.Values(), want.Values())) << c.num_heads << " heads";
    EXPECT_TRUE(out.GapsAreUntouched());
  }
}

double Silu(double z) { return z / (1.0 + std::exp(-z)); }

struct Expected {
  double value = 0.0;
  double tolerance = 0.0;
};

// One output of a product whose inputs are themselves known within a tolerance.
Expected Dot(const TestWeight& weight, ProductFormat format, int output,
             const std::vector<Expected>& inputs) {
  Expected result;
  double absolute_sum = 0.0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double w = weight.Value(format, output, static_cast<int>(i));
    const double x = Enter(format, static_cast<float>(inputs[i].value));
    result.value += x * w;
    absolute_sum += std::fabs(x * w);
    result.tolerance += inputs[i].tolerance * std::fabs(w);
  }
  result.tolerance += SumTolerance(static_cast<int>(inputs.size()), absolute_sum);
  return result;
}

// silu(gate) * up. The slope of silu stays below 1.1; exp, division and product add a few units.
// When the next product rounds to bf16, a value near a tie may go either way.
Expected Gated(const Expected& gate, const Expected& up, ProductFormat format) {
  Expected result;
  result.value = Silu(gate.value) * up.value;
  result.tolerance = 1.1 * gate.tolerance * (std::fabs(up.value) + up.tolerance) +
                     std::fabs(Silu(gate.value)) * up.tolerance +
                     8 * kF32Unit * std::fabs(result.value) + 1e-37;
  if (format == ProductFormat::kBf16) result.tolerance += 2 * kBf16Unit * std::fabs(result.value);
  return result;
}

TEST_P(Products, FeedForwardAgreesWithTheFormula) {
  struct Case {
    int width, inner, num_rows;
    DType dtype;
    ProductFormat format;
  };
  for (const Case& c : {Case{33, 17, 3, DType::kF32, ProductFormat::kF32},
                        Case{64, 100, 1, DType::kBf16, ProductFormat::kBf16},
                        Case{31, 3, 70, DType::kBf16, ProductFormat::kF32},
                        Case{100, 65, 5, DType::kFp8E4m3, ProductFormat::kBf16},
                        Case{1, 1, 2, DType::kF16, ProductFormat::kF32},
                        Case{16, 16, 0, DType::kBf16, ProductFormat::kBf16}}) {
    SCOPED_TRACE(testing::Message() << c.width << " -> " << c.inner << ", " << c.num_rows);
    const TestWeight gate(c.dtype, {c.inner, c.width}, 1);
    const TestWeight up(c.dtype, {c.inner, c.width}, 2);
    const TestWeight down(c.dtype, {c.width, c.inner}, 3);
    TestMatrix x(c.num_rows, c.width, RandomValues(4).Make(c.num_rows * c.width, 0.3f));
    TestMatrix out(c.num_rows, c.width);
    kernels_->FeedForward(x.view(), *MustMake(gate, c.format), *MustMake(up, c.format),
                          *MustMake(down, c.format), out.view());
    EXPECT_TRUE(out.GapsAreUntouched());
    for (int r = 0; r < c.num_rows; ++r) {
      std::vector<Expected> inputs(c.width);
      for (int i = 0; i < c.width; ++i) inputs[i].value = x.view().row(r)[i];
      std::vector<Expected> inner(c.inner);
      for (int i = 0; i < c.inner; ++i) {
        inner[i] = Gated(Dot(gate, c.format, i, inputs), Dot(up, c.format, i, inputs), c.format);
      }
      for (int o = 0; o < c.width; ++o) {
        const Expected want = Dot(down, c.format, o, inner);
        ASSERT_NEAR(out.view().row(r)[o], want.value, want.tolerance) << r << ", " << o;
      }
    }
  }
}

// silu at its ends: no NaN from infinity over infinity.
TEST_P(Products, FeedForwardSurvivesLargeActivations) {
  const float one = 1.0f;
  const WeightSource source = {
      .dtype = DType::kF32, .data = &one, .num_outputs = 1, .num_inputs = 1};
  const std::unique_ptr<Weight> unit = *kernels_->MakeWeight(source, ProductFormat::kF32);
  TestMatrix x(4, 1, {-1000.0f, -90.0f, 90.0f, 1000.0f});
  TestMatrix out(4, 1);
  kernels_->FeedForward(x.view(), *unit, *unit, *unit, out.view());
  EXPECT_NEAR(out.view().row(0)[0], 0.0f, 1e-30);
  EXPECT_NEAR(out.view().row(1)[0], 0.0f, 1e-30);
  EXPECT_FLOAT_EQ(out.view().row(2)[0], 8100.0f);
  EXPECT_FLOAT_EQ(out.view().row(3)[0], 1e6f);
}

}  // namespace
}  // namespace orrery
