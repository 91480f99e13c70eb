#include "kernels/cpu/packed_weight.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace orrery {
namespace {

WeightSource Source(DType dtype, const void* data, int num_outputs, int num_inputs) {
  return {.dtype = dtype, .data = data, .num_outputs = num_outputs, .num_inputs = num_inputs};
}

TEST(PackedWeight, LaysBf16OutInPairsOfOneChain) {
  std::vector<uint16_t> values;
  for (int i = 0; i < 17 * 33; ++i) values.push_back(F32ToBf16(static_cast<float>(i % 251)));
  const auto weight =
      *PackedWeight::Make(Source(DType::kBf16, values.data(), 17, 33), ProductFormat::kBf16);
  MatmulJob job = {};
  weight->Describe(job);
  ASSERT_EQ(job.format, PanelFormat::kBf16);
  EXPECT_EQ(job.num_inputs, 64);
  const auto* panels = static_cast<const uint16_t*>(job.panels);
  for (int o = 0; o < 32; ++o) {
    for (int i = 0; i < 64; ++i) {
      const uint16_t want = o < 17 && i < 33 ? values[o * 33 + i] : 0;
      const int line = o / 16 * 32 + i / 4 * 2 + i % 2;
      ASSERT_EQ(panels[(line * 16 + o % 16) * 2 + (i % 4 < 2)], want) << o << ", " << i;
    }
  }
  EXPECT_EQ(weight->num_bytes(), 2u * 64 * 16 * 2 + 4);
}

TEST(PackedWeight, KeepsF32WhereProductsAreF32) {
  const std::vector<float> values = {0.1f, 0.2f, 0.3f};
  const auto f32 =
      *PackedWeight::Make(Source(DType::kF32, values.data(), 1, 3), ProductFormat::kF32);
  MatmulJob job = {};
  f32->Describe(job);
  EXPECT_EQ(job.format, PanelFormat::kF32);
  EXPECT_EQ(static_cast<const float*>(job.panels)[2 * 16], 0.3f);
  const auto bf16 =
      *PackedWeight::Make(Source(DType::kF32, values.data(), 1, 3), ProductFormat::kBf16);
  bf16->Describe(job);
  EXPECT_EQ(job.format, PanelFormat::kBf16);
  EXPECT_EQ(static_cast<const uint16_t*>(job.panels)[33], F32ToBf16(0.2f));
}

TEST(PackedWeight, KeepsFp8CodesAsBytes) {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 17 * 33; ++i) codes.push_back(static_cast<uint8_t>(i % 127));
  const std::vector<float> scales(2, 0.5f);
  WeightSource source = Source(DType::kFp8E4m3, codes.data(), 17, 33);
  source.scales = scales.data();
  source.scale_block_outputs = 32;
  source.scale_block_inputs = 32;
  const auto weight = *PackedWeight::Make(source, ProductFormat::kBf16);
  MatmulJob job = {};
  weight->Describe(job);
  ASSERT_EQ(job.format, PanelFormat::kFp8);
  const auto* panels = static_cast<const uint8_t*>(job.panels);
  const PanelLayout layout(17, 33);
  for (int o = 0; o < 17; ++o) {
    for (int i = 0; i < 33; ++i) EXPECT_EQ(panels[layout.ByteIndex(o, i)], codes[o * 33 + i]);
  }
  EXPECT_EQ(weight->num_bytes(), 2u * 64 * 16 + 8);
}

TEST(PackedWeight, RefusesCodesThatAreNoNumbers) {
  for (const uint8_t code : {uint8_t{0x7f}, uint8_t{0xff}}) {
    std::vector<uint8_t> codes(32 * 32);
    codes[32 * 3 + 5] = code;
    const float scale = 1.0f;
    WeightSource source = Source(DType::kFp8E4m3, codes.data(), 32, 32);
    source.scales = &scale;
    source.scale_block_outputs = source.scale_block_inputs = 32;
    const absl::Status status = PackedWeight::Make(source, ProductFormat::kBf16).status();
    EXPECT_EQ(status.message(), "output 3, input 5 is not a number");
  }
}

TEST(PackedWeight, RefusesScaleBlocksThatCutThroughAPanel) {
  const std::vector<uint8_t> codes(64 * 64);
  const std::vector<float> scales(64 * 64, 1.0f);
  WeightSource source = Source(DType::kFp8E4m3, codes.data(), 64, 64);
  source.scales = scales.data();
  for (const auto& [outputs, inputs] : {std::pair(8, 32), std::pair(16, 16), std::pair(17, 33)}) {
    source.scale_block_outputs = outputs;
    source.scale_block_inputs = inputs;
    const absl::Status status = PackedWeight::Make(source, ProductFormat::kBf16).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(status.message()).find("multiples of [16, 32]"), std::string::npos)
        << status;
  }
}

}  // namespace
}  // namespace orrery
