// The x86 family: scalar, AVX2 and AVX-512 give the same bits for every operation, on values that
// include denormals, zeros of both signs and large ones; and Matmul is the sum of TDPBF16PS, spelt
// out here.

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/conformance/host_implementations.h"
#include "kernels/conformance/kernels_testing.h"
#include "kernels/factory/make_kernels.h"

namespace orrery {
namespace {

// Every seventh value is an odd one.
std::vector<float> DifficultValues(uint32_t seed, size_t num) {
  std::vector<float> values = RandomValues(seed).Make(num);
  constexpr float kOdd[] = {0.0f,      -0.0f,     0x1p-149f, -0x1.fffffcp-127f, 0x1p-126f,
                            0x1p-133f, -0x1p-70f, 1e15f,     0x1.ffp-127f,      -1e-20f};
  for (size_t i = 0; i < num; i += 7) values[i] = kOdd[(i / 7 + seed) % std::size(kOdd)];
  return values;
}

using Operation = std::function<std::vector<float>(Kernels&)>;

void ExpectSameBitsInAllVariants(const Operation& operation) {
  std::vector<float> first;
  for (const Implementation& variant : X86Variants()) {
    const std::vector<float> bits = operation(*variant.Make());
    if (first.empty()) first = bits;
    EXPECT_FALSE(bits.empty());
    EXPECT_TRUE(SameBits(bits, first)) << variant.name;
  }
}

TEST(X86Bits, AreEqualInMatmul) {
  for (DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kFp8E4m3}) {
    for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
      for (int num_rows : {1, 2, 3, 9, 17, 50}) {
        const TestWeight weight(dtype, {83, 101}, 1);
        TestMatrix x(num_rows, 101, DifficultValues(num_rows, num_rows * 101));
        const std::vector<float> bias = DifficultValues(3, 83);
        ExpectSameBitsInAllVariants([&](Kernels& kernels) {
          TestMatrix out(num_rows, 83);
          const auto made = *kernels.MakeWeight(weight.source(), format);
          kernels.Matmul(x.view(), *made, bias.data(), out.view());
          return out.Values();
        });
      }
    }
  }
}

TEST(X86Bits, AreEqualInMatmulOfQuantisedWeights) {
  for (const WeightFormat held : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
      for (int num_rows : {1, 2, 3, 9, 17, 50}) {
        const TestWeight weight(DType::kF32, {83, 301}, 1);
        TestMatrix x(num_rows, 301, DifficultValues(num_rows, num_rows * 301));
        ExpectSameBitsInAllVariants([&](Kernels& kernels) {
          TestMatrix out(num_rows, 83);
          const auto made = *kernels.MakeWeight(weight.source(), format, held);
          kernels.Matmul(x.view(), *made, nullptr, out.view());
          return out.Values();
        });
      }
    }
  }
}

// Long sums, many panels and rows, and blocks of scales that end anywhere: whatever a variant cuts a product into.
TEST(X86Bits, AreEqualInMatmulOfManyInputsAndOutputs) {
  constexpr int kNumInputs = 2340;
  constexpr int kNumOutputs = 213;
  const std::vector<float> bias = DifficultValues(3, kNumOutputs);
  const auto expect_same = [&](const WeightSource& source, WeightFormat held, int num_rows) {
    TestMatrix x(num_rows, kNumInputs, DifficultValues(num_rows, num_rows * kNumInputs));
    ExpectSameBitsInAllVariants([&](Kernels& kernels) {
      TestMatrix out(num_rows, kNumOutputs);
      const auto made = *kernels.MakeWeight(source, ProductFormat::kBf16, held);
      kernels.Matmul(x.view(), *made, bias.data(), out.view());
      return out.Values();
    });
  };
  const TestWeight bf16(DType::kBf16, {kNumOutputs, kNumInputs}, 1);
  for (const int num_rows : {1, 2, 16, 17, 33, 70}) {
    expect_same(bf16.source(), WeightFormat::kStored, num_rows);
  }
  expect_same(bf16.source(), WeightFormat::kInt8, 35);
  expect_same(bf16.source(), WeightFormat::kInt4, 35);
  std::vector<uint8_t> codes(kNumOutputs * kNumInputs);
  for (size_t i = 0; i < codes.size(); ++i)
    codes[i] = static_cast<uint8_t>(i * 37 % 127 + i % 2 * 128);
  std::vector<float> scales(kNumOutputs * kNumInputs / 32);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.5f + 0.01f * (i % 97);
  for (const int block : {32, 96, 128, 544, 1184}) {
    for (const int num_rows : {3, 20, 50}) {
      expect_same({.dtype = DType::kFp8E4m3,
                   .data = codes.data(),
                   .num_outputs = kNumOutputs,
                   .num_inputs = kNumInputs,
                   .scales = scales.data(),
                   .scale_block_outputs = 128,
                   .scale_block_inputs = block},
                  WeightFormat::kStored, num_rows);
    }
  }
}

// Each code alone, as the only input and within a whole block: the row picks it out.
TEST(X86Bits, OfEveryFp8CodeAreItsValue) {
  for (const int num_inputs : {1, 32}) {
    const int input = num_inputs / 2;
    std::vector<uint8_t> weights;
    std::vector<float> values;
    for (int code = 0; code < 256; ++code) {
      if ((code & 0x7f) == 0x7f) continue;
      weights.resize(weights.size() + num_inputs, 0x38);
      weights[weights.size() - num_inputs + input] = static_cast<uint8_t>(code);
      values.push_back(Fp8E4m3ToF32(static_cast<uint8_t>(code)));
    }
    const int num = static_cast<int>(values.size());
    const float scale = 1.0f;
    const WeightSource source = {.dtype = DType::kFp8E4m3,
                                 .data = weights.data(),
                                 .num_outputs = num,
                                 .num_inputs = num_inputs,
                                 .scales = &scale,
                                 .scale_block_outputs = 256,
                                 .scale_block_inputs = 32};
    for (const Implementation& variant : X86Variants()) {
      const std::unique_ptr<Kernels> kernels = variant.Make();
      for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
        const auto weight = *kernels->MakeWeight(source, format);
        for (const int num_rows : {1, 9}) {
          std::vector<float> rows(num_rows * num_inputs, 0.0f);
          for (int r = 0; r < num_rows; ++r) rows[r * num_inputs + input] = 1.0f;
          TestMatrix x(num_rows, num_inputs, rows);
          TestMatrix out(num_rows, num);
          kernels->Matmul(x.view(), *weight, nullptr, out.view());
          for (int i = 0; i < num; ++i) {
            ASSERT_EQ(out.view().row(num_rows - 1)[i], values[i])
                << variant.name << ", output " << i << " of " << num_inputs << " inputs";
          }
        }
      }
    }
  }
}

// AVX2 scales the inputs of fp8 weights, where that does not overflow.
TEST(X86Bits, AreEqualForInputsNearTheLargestNumber) {
  const TestWeight weight(DType::kFp8E4m3, {35, 160}, 1, 0x1p-8f);
  for (const float large : {0x1p118f, 0x1p119f, -0x1.8p120f, 0x1.fep127f, -INFINITY}) {
    std::vector<float> values = RandomValues(2).Make(160);
    values[70] = large;
    TestMatrix x(1, 160, values);
    ExpectSameBitsInAllVariants([&](Kernels& kernels) {
      TestMatrix out(1, 35);
      const auto made = *kernels.MakeWeight(weight.source(), ProductFormat::kBf16);
      kernels.Matmul(x.view(), *made, nullptr, out.view());
      return out.Values();
    });
  }
}

TEST(X86Bits, AreEqualForDifficultWeights) {
  const std::vector<float> values = DifficultValues(4, 33 * 65);
  const WeightSource source = {
      .dtype = DType::kF32, .data = values.data(), .num_outputs = 33, .num_inputs = 65};
  TestMatrix x(5, 65, DifficultValues(5, 5 * 65));
  for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
    ExpectSameBitsInAllVariants([&](Kernels& kernels) {
      TestMatrix out(5, 33);
      kernels.Matmul(x.view(), **kernels.MakeWeight(source, format), nullptr, out.view());
      return out.Values();
    });
  }
}

TEST(X86Bits, AreEqualInFeedForward) {
  const TestWeight gate(DType::kBf16, {45, 70}, 1, 0.3f);
  const TestWeight up(DType::kBf16, {45, 70}, 2, 0.3f);
  const TestWeight down(DType::kBf16, {70, 45}, 3, 0.3f);
  TestMatrix x(6, 70, RandomValues(4).Make(6 * 70));
  for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
    ExpectSameBitsInAllVariants([&](Kernels& kernels) {
      TestMatrix out(6, 70);
      kernels.FeedForward(x.view(), **kernels.MakeWeight(gate.source(), format),
                          **kernels.MakeWeight(up.source(), format),
                          **kernels.MakeWeight(down.source(), format), out.view());
      return out.Values();
    });
  }
}

TEST(X86Bits, AreEqualAlongRows) {
  for (int width : {1, 15, 16, 17, 100, 300}) {
    const std::vector<float> values = DifficultValues(width, 3 * width);
    const std::vector<float> weight = DifficultValues(9, width + 2);  // [width], or 3 in the sum
    ExpectSameBitsInAllVariants([&](Kernels& kernels) {
      TestMatrix x(3, width, values);
      TestMatrix out(3, width);
      kernels.RmsNorm(x.view(), weight.data(), 1e-6f, out.view());
      std::vector<float> all = out.Values();
      auto append = [&] {
        for (const float value : out.Values()) all.push_back(value);
      };
      kernels.LogSoftmax(x.view(), out.view());
      append();
      kernels.Add(x.view(), out.view());
      append();
      TestMatrix sum(1, width);
      kernels.WeightedSum(x.view(), weight.data(), 3, sum.view());
      for (const float value : sum.Values()) all.push_back(value);
      for (RowFormat format : {RowFormat::kBf16, RowFormat::kFp8}) {
        std::vector<std::byte> encoded(3 * EncodedRowBytes(format, width));
        kernels.EncodeRows(x.view(), format, encoded.data());
        kernels.DecodeRows(encoded.data(), format, out.view());
        append();
      }
      return all;
    });
  }
}

TEST(X86Bits, AreEqualInRope) {
  std::vector<float> cos(5 * 17);
  std::vector<float> sin(5 * 17);
  MakeRopeTable(std::vector<double>(17, 0.7), 5, cos.data(), sin.data());
  for (RopePairing pairing : {RopePairing::kInterleaved, RopePairing::kHalfSplit}) {
    ExpectSameBitsInAllVariants([&](Kernels& kernels) {
      TestMatrix x(5, 70, DifficultValues(1, 5 * 70));
      kernels.Rope(x.view(), 2, 35, 0, pairing, {cos.data(), sin.data(), 5, 34});
      return x.Values();
    });
  }
}

struct AttentionShape {
  int num_heads;
  int key_dim;
  int value_dim;
  int value_offset;
};

// All rows from `begin` on, together or one after the other.
std::vector<float> Attend(Kernels& kernels, const AttentionShape& shape, DType format, int begin,
                          bool one_by_one) {
  constexpr int kNumPositions = 131;
  const std::vector<int32_t> block_ids = {2, 0, 1};
  TestMatrix rows(kNumPositions, shape.key_dim, DifficultValues(1, kNumPositions * shape.key_dim));
  TestMatrix q(kNumPositions, shape.num_heads * shape.key_dim,
               RandomValues(2).Make(kNumPositions * shape.num_heads * shape.key_dim));
  std::vector<std::byte> memory(3 * kKvBlockTokens * shape.key_dim * 4);
  const KvCacheView cache = {format, memory.data(), 3, shape.key_dim};
  kernels.AppendKv(rows.view(), cache, block_ids, 0);
  const int num_rows = kNumPositions - begin;
  TestMatrix out(num_rows, shape.num_heads * shape.value_dim);
  const int rows_at_once = one_by_one ? 1 : num_rows;
  for (int row = 0; row < num_rows; row += rows_at_once) {
    kernels.Attend({.q = q.view().Rows(begin + row, rows_at_once),
                    .num_heads = shape.num_heads,
                    .key_dim = shape.key_dim,
                    .value_dim = shape.value_dim,
                    .value_offset = shape.value_offset,
                    .scale = 1e-8f,  // the difficult values reach 1e15
                    .cache = cache,
                    .block_ids = block_ids,
                    .begin_position = begin,
                    .first_position = begin + row,
                    .out = out.view().Rows(row, rows_at_once)});
  }
  return out.Values();
}

TEST(X86Bits, AreEqualInAttention) {
  for (const DType format : {DType::kF32, DType::kBf16}) {
    for (const int begin : {0, 1, 37, 70}) {
      ExpectSameBitsInAllVariants([&](Kernels& kernels) {
        return Attend(kernels, {19, 40, 27, 3}, format, begin, /*one_by_one=*/false);
      });
    }
  }
}

// Keys of whole blocks of inputs, few heads and many, panels of values of any number.
TEST(X86Bits, AreEqualInAttentionOfManyShapes) {
  for (const AttentionShape& shape :
       {AttentionShape{3, 64, 48, 8}, AttentionShape{16, 96, 80, 0}, AttentionShape{35, 64, 16, 0},
        AttentionShape{8, 576, 512, 0}, AttentionShape{50, 128, 100, 28}}) {
    for (const bool one_by_one : {false, true}) {
      const int begin = one_by_one ? 57 : 5;
      ExpectSameBitsInAllVariants([&](Kernels& kernels) {
        return Attend(kernels, shape, DType::kBf16, begin, one_by_one);
      });
    }
  }
}

TEST(X86Bits, AreEqualInGate) {
  const std::vector<float> logits = DifficultValues(1, 20 * 33);
  for (GateParams::Score score : {GateParams::Score::kSigmoid, GateParams::Score::kSoftmax}) {
    GateParams params;
    params.score = score;
    params.num_experts = 33;
    params.topk = 6;
    params.normalize = true;
    ExpectSameBitsInAllVariants([&](Kernels& kernels) {
      TestMatrix x(20, 33, logits);
      std::vector<int32_t> ids(20 * 6);
      std::vector<float> weights(20 * 6);
      kernels.Gate(x.view(), params, nullptr, ids.data(), weights.data());
      weights.insert(weights.end(), ids.begin(), ids.end());
      return weights;
    });
  }
}

// One output of Matmul, written as the instruction does it.
float TileDotProduct(const std::vector<float>& x, const TestWeight& weight, ProductFormat format,
                     int output) {
  const int num_inputs = static_cast<int>(x.size());
  float accumulator = 0.0f;
  for (int begin = 0; begin < num_inputs; begin += 32) {
    float even = 0.0f;
    float odd = 0.0f;
    for (int i = begin; i < std::min(begin + 32, num_inputs); ++i) {
      float& chain = i % 2 == 0 ? even : odd;
      chain = std::fma(static_cast<float>(Enter(format, x[i])),
                       static_cast<float>(weight.Value(format, output, i)), chain);
    }
    accumulator += even + odd;
  }
  return accumulator;
}

TEST(X86Bits, OfMatmulAreThoseOfTheTileInstruction) {
  for (DType dtype : {DType::kBf16, DType::kF32}) {
    for (ProductFormat format : {ProductFormat::kBf16, ProductFormat::kF32}) {
      for (int num_inputs : {1, 2, 31, 32, 33, 64, 95, 200}) {
        const TestWeight weight(dtype, {21, num_inputs}, 2);
        const std::vector<float> x = RandomValues(3).Make(num_inputs);
        std::vector<float> want;
        for (int o = 0; o < 21; ++o) want.push_back(TileDotProduct(x, weight, format, o));
        for (const Implementation& variant : X86Variants()) {
          const std::unique_ptr<Kernels> kernels = variant.Make();
          TestMatrix out(1, 21);
          kernels->Matmul(ConstMatrix(x.data(), 1, num_inputs),
                          **kernels->MakeWeight(weight.source(), format), nullptr, out.view());
          EXPECT_TRUE(SameBits(out.Values(), want)) << variant.name << ", " << num_inputs;
        }
      }
    }
  }
}

// fp8: per block of inputs the sum of the codes, which meets its scale in one fused step.
TEST(X86Bits, OfAnFp8MatmulApplyEachScaleOnce) {
  const TestWeight weight(DType::kFp8E4m3, {16, 100, 16, 32}, 2);
  const std::vector<float> x = RandomValues(3).Make(100);
  const auto* codes = static_cast<const uint8_t*>(weight.source().data);
  std::vector<float> want(16);
  for (int o = 0; o < 16; ++o) {
    for (int begin = 0; begin < 100; begin += 32) {
      float even = 0.0f;
      float odd = 0.0f;
      for (int i = begin; i < std::min(begin + 32, 100); ++i) {
        float& chain = i % 2 == 0 ? even : odd;
        chain = std::fma(RoundToBf16(x[i]), Fp8E4m3ToF32(codes[o * 100 + i]), chain);
      }
      want[o] = std::fma(even + odd, weight.source().scales[begin / 32], want[o]);
    }
  }
  for (const Implementation& variant : X86Variants()) {
    const std::unique_ptr<Kernels> kernels = variant.Make();
    TestMatrix out(1, 16);
    kernels->Matmul(ConstMatrix(x.data(), 1, 100),
                    **kernels->MakeWeight(weight.source(), ProductFormat::kBf16), nullptr,
                    out.view());
    EXPECT_TRUE(SameBits(out.Values(), want)) << variant.name;
  }
}

// Tiles of the model and of the hardware are the same code but for the instructions; the hardware is in
// X86Variants() wherever there is some.
TEST(X86Bits, OfTileRegistersAreThoseOfTheHardware) {
  const auto amx = MakeKernels(Backend::kCpu, CpuVariant::kAmx, nullptr);
  if (!amx.ok()) {
    GTEST_SKIP()
        << "NO AMX HERE: only the model of the tile registers was tested, in this and in all "
           "tests of variants. "
        << amx.status();
  }
  // Many row tiles and panels, chunks of inputs, and scales: rows and outputs that fill no tile.
  for (const DType dtype : {DType::kBf16, DType::kFp8E4m3}) {
    const TestWeight weight(dtype, {83, 2200}, 1);
    TestMatrix x(75, 2200, DifficultValues(3, 75 * 2200));
    const auto product = [&](CpuVariant variant) {
      const auto kernels = *MakeKernels(Backend::kCpu, variant, nullptr);
      TestMatrix out(75, 83);
      kernels->Matmul(x.view(), **kernels->MakeWeight(weight.source(), ProductFormat::kBf16),
                      nullptr, out.view());
      return out.Values();
    };
    EXPECT_TRUE(SameBits(product(CpuVariant::kAmx), product(CpuVariant::kAmxModel)));
    EXPECT_TRUE(SameBits(product(CpuVariant::kAmx), product(CpuVariant::kAvx512Bf16)));
  }
}

// Longer than any chunk of inputs; with scales whose blocks do not fill one.
TEST(X86Bits, AreEqualOverManyInputs) {
  constexpr int kInputs = 4500;
  struct Case {
    DType dtype;
    WeightFormat held;
  };
  for (const Case& held :
       {Case{DType::kBf16, WeightFormat::kStored}, Case{DType::kFp8E4m3, WeightFormat::kStored},
        Case{DType::kBf16, WeightFormat::kInt8}}) {
    const TestWeight weight(held.dtype, {35, kInputs}, 1);
    for (const int num_rows : {1, 7, 19}) {
      TestMatrix x(num_rows, kInputs, DifficultValues(num_rows, num_rows * kInputs));
      const std::vector<float> bias = DifficultValues(3, 35);
      ExpectSameBitsInAllVariants([&](Kernels& kernels) {
        TestMatrix out(num_rows, 35);
        const auto made = *kernels.MakeWeight(weight.source(), ProductFormat::kBf16, held.held);
        kernels.Matmul(x.view(), *made, bias.data(), out.view());
        return out.Values();
      });
    }
  }
}

TEST(X86Bits, FlushDenormalsAndLeaveTheThreadAsItWas) {
  const unsigned before = _mm_getcsr();
  const float half = 0.5f;
  const WeightSource source = {
      .dtype = DType::kF32, .data = &half, .num_outputs = 1, .num_inputs = 1};
  for (const Implementation& variant : X86Variants()) {
    const std::unique_ptr<Kernels> kernels = variant.Make();
    const auto weight = *kernels->MakeWeight(source, ProductFormat::kF32);
    // A denormal operand, and a denormal result of normal ones.
    for (float value : {0x1p-127f, 0x1p-126f}) {
      TestMatrix out(1, 1);
      kernels->Matmul(ConstMatrix(&value, 1, 1), *weight, nullptr, out.view());
      EXPECT_TRUE(SameBits(out.Values(), {0.0f})) << variant.name;
    }
    EXPECT_EQ(_mm_getcsr() & ~0x3fu, before & ~0x3fu);  // but for the exception flags
  }
}

// A store that one machine made serves every machine of the family.
TEST(X86WeightImages, AreTheSameOnEveryVariant) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kFp8E4m3}) {
    const TestWeight source(dtype, {17, 33, 32, 64}, 3);
    std::vector<std::byte> first;
    for (const Implementation& variant : X86Variants()) {
      const auto weight = variant.Make()->MakeWeight(source.source(), ProductFormat::kBf16);
      ASSERT_TRUE(weight.ok()) << weight.status();
      const WeightImage taken = *(*weight)->Image();
      const std::vector<std::byte> image(taken.bytes.begin(), taken.bytes.end());
      if (first.empty()) first = image;
      EXPECT_EQ(image, first) << variant.name;
    }
  }
}

}  // namespace
}  // namespace orrery
