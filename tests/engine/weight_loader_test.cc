// Tensors of small checkpoints made here, through the loader into products of the cpu kernels.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/dtypes.h"
#include "checkpoint/test_files.h"
#include "device/host/host_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"
#include "model/checkpoint_loader.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// 1 + 2^-12 keeps its last bit in f32 products and loses it in bf16 ones.
constexpr float kFine = 1.0f + 0x1p-12f;

class WeightLoaderTest : public ::testing::Test {
 protected:
  // A checkpoint of one file with this header and data.
  CheckpointLoader& Open(const std::string& header, const std::string& data,
                         const Numerics& numerics = {}, Backend backend = Backend::kCpu) {
    const std::string dir = MakeTempDir();
    WriteTempFile(dir, "model.safetensors", SafetensorsBytes(header, data));
    auto checkpoint = Checkpoint::Open(dir);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_.emplace(*std::move(checkpoint));
    auto kernels = MakeKernels(backend, CpuVariant::kBest, nullptr);
    EXPECT_TRUE(kernels.ok()) << kernels.status();
    kernels_ = *std::move(kernels);
    loader_.emplace(&*checkpoint_, &config_, kernels_.get(), device_.get(), numerics,
                    &loaded_bytes_);
    return *loader_;
  }

  // weight * x, for one row x.
  std::vector<float> Multiply(const absl::StatusOr<std::unique_ptr<Weight>>& weight,
                              std::vector<float> x) {
    EXPECT_TRUE(weight.ok()) << weight.status();
    if (!weight.ok()) return {};
    std::vector<float> out((*weight)->num_outputs());
    kernels_->Matmul(ConstMatrix(x.data(), 1, x.size()), **weight, nullptr,
                     Matrix(out.data(), 1, out.size()));
    return out;
  }

  ModelConfig config_;
  std::unique_ptr<Device> device_ = MakeHostDevice();
  std::unique_ptr<Kernels> kernels_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<CheckpointLoader> loader_;
  std::atomic<int64_t> loaded_bytes_ = 0;
};

const char kF32Weight[] =
    R"({"a.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}})";
const char kBf16Weight[] =
    R"({"a.weight": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]}})";
const uint16_t kBf16One = 0x3f80, kBf16Two = 0x4000;

TEST_F(WeightLoaderTest, AWeightStoredAsF32IsNotRoundedInABf16Cluster) {
  CheckpointLoader& loader = Open(kF32Weight, BytesOf<float>({kFine, 2.0f}));
  EXPECT_THAT(Multiply(loader.Linear("a", 2, 1), {1.0f}), ElementsAre(kFine, 2.0f));
  EXPECT_THAT(Multiply(loader.Linear("a", 2, 1), {kFine}), ElementsAre(kFine * kFine, 2 * kFine));
  EXPECT_EQ(loaded_bytes_, 16);
}

TEST_F(WeightLoaderTest, AWeightStoredAsBf16MultipliesInTheFormatOfTheCluster) {
  const std::string data = BytesOf<uint16_t>({kBf16One, kBf16Two});
  EXPECT_THAT(Multiply(Open(kBf16Weight, data).Linear("a", 2, 1), {kFine}),
              ElementsAre(1.0f, 2.0f));
  EXPECT_THAT(
      Multiply(Open(kBf16Weight, data, {.precision = Precision::kF32}).Linear("a", 2, 1), {kFine}),
      ElementsAre(kFine, 2 * kFine));
}

TEST_F(WeightLoaderTest, OnlyFeedForwardsAreQuantised) {
  CheckpointLoader& loader = Open(
      R"({"m.gate_proj.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
          "m.up_proj.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]},
          "m.down_proj.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [16, 24]}})",
      BytesOf<float>({1.0f, 0.25f, 1.0f, 0.25f, 1.0f, 0.25f}),
      {.ffn_weights = WeightFormat::kInt4});
  EXPECT_THAT(Multiply(loader.Linear("m.gate_proj", 1, 2), {0.0f, 1.0f}), ElementsAre(0.25f));
  auto weights = loader.FeedForward("m", 2, 1);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const float scale = 0.142578125f;  // 1 / 7 in bf16: the largest code of int4 is 7
  EXPECT_THAT(Multiply(std::move(weights->gate), {0.0f, 1.0f}), ElementsAre(2 * scale));
  EXPECT_THAT(Multiply(std::move(weights->up), {1.0f, 0.0f}), ElementsAre(7 * scale));
  // A scale of its own for every output.
  EXPECT_THAT(Multiply(std::move(weights->down), {1.0f}), ElementsAre(7 * scale, 7 * scale / 4));
}

// A row (1, 0.3) in fp8: the scale is 1 / 448, and 0.3 * 448 = 134.4 becomes 128: the next code is 144.
TEST_F(WeightLoaderTest, OnlyProductsOfFeedForwardsAreFp8) {
  config_.weight_block_outputs = config_.weight_block_inputs = 128;
  const auto entries = [](const char* name, int begin) {
    return absl::StrCat("\"", name, ".weight\": {\"dtype\": \"F8_E4M3\", \"shape\": [1, 2], ",
                        "\"data_offsets\": [", begin, ", ", begin + 2, "]}, \"", name,
                        ".weight_scale_inv\": {\"dtype\": \"F32\", \"shape\": [1, 1], ",
                        "\"data_offsets\": [", begin + 2, ", ", begin + 6, "]}");
  };
  const std::string one_and_one = std::string("\x38\x38") + BytesOf<float>({1.0f});
  CheckpointLoader& loader =
      Open(absl::StrCat("{", entries("a", 0), ", ", entries("m.gate_proj", 6), "}"),
           one_and_one + one_and_one, {.ffn_products = FfnProducts::kFp8}, Backend::kReference);
  EXPECT_THAT(Multiply(loader.Linear("a", 1, 2), {1.0f, 0.3f}),
              ElementsAre(1.0f + RoundToBf16(0.3f)));
  EXPECT_THAT(
      Multiply(loader.LoadWeight({WeightItem::Kind::kFeedForward, "m.gate_proj.weight", 1, 2, {}}),
               {1.0f, 0.3f}),
      ElementsAre(::testing::FloatNear(1.0f + 128.0f / 448, 1e-6f)));
}

TEST_F(WeightLoaderTest, Fp8ProductsOfOtherWeightsAreRefusedByName) {
  CheckpointLoader& loader = Open(kBf16Weight, BytesOf<uint16_t>({kBf16One, kBf16Two}),
                                  {.ffn_products = FfnProducts::kFp8}, Backend::kReference);
  const auto weight = loader.LoadWeight({WeightItem::Kind::kFeedForward, "a.weight", 2, 1, {}});
  EXPECT_EQ(weight.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(weight.status().message()),
              AllOf(HasSubstr("a.weight: "), HasSubstr("this one is bf16")));
}

TEST_F(WeightLoaderTest, TheGateMultipliesInF32InABf16Cluster) {
  CheckpointLoader& loader = Open(kBf16Weight, BytesOf<uint16_t>({kBf16One, kBf16Two}));
  EXPECT_THAT(Multiply(loader.LinearF32("a", 2, 1), {kFine}), ElementsAre(kFine, 2 * kFine));
}

TEST_F(WeightLoaderTest, WidensVectorsOfEveryDtype) {
  CheckpointLoader& loader = Open(
      R"({"b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
          "h": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]},
          "f": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}})",
      BytesOf<uint16_t>({kBf16One, kBf16Two, 0x3c00, 0x4000}) + BytesOf<float>({1.0f, 2.0f}));
  for (const char* name : {"b", "h", "f"}) {
    const auto vector = loader.Vector(name, 2);
    ASSERT_TRUE(vector.ok()) << vector.status();
    EXPECT_EQ(vector->as<float>()[0], 1.0f) << name;
    EXPECT_EQ(vector->as<float>()[1], 2.0f) << name;
  }
}

// e4m3: 0x38 is 1, 0x40 is 2. Blocks of 2 x 2 over a matrix of 3 x 3: the last ones are short.
class Fp8WeightTest : public WeightLoaderTest {
 protected:
  Fp8WeightTest() {
    config_.weight_block_outputs = 2;
    config_.weight_block_inputs = 2;
  }
  CheckpointLoader& OpenFp8(const std::string& scale_entry, const std::string& scale_bytes) {
    const std::string codes = "\x38\x38\x40\x38\x38\x40\x38\x38\x40";
    return Open(R"({"a.weight": {"dtype": "F8_E4M3", "shape": [3, 3], "data_offsets": [0, 9]})" +
                    scale_entry + "}",
                codes + scale_bytes);
  }
  const std::string kScales =
      R"(, "a.weight_scale_inv": {"dtype": "F32", "shape": [2, 2], "data_offsets": [9, 25]})";
};

TEST_F(Fp8WeightTest, TakesTheScaleOfEachBlockAndTheShortOnesAtTheEnd) {
  CheckpointLoader& loader = OpenFp8(kScales, BytesOf<float>({0.5f, 4.0f, 1.0f, 8.0f}));
  const auto matrix = loader.Dequantized({WeightItem::Kind::kLinear, "a.weight", 3, 3, {}});
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_THAT(matrix->values, ElementsAre(0.5f, 0.5f, 8.0f, 0.5f, 0.5f, 8.0f, 1.0f, 1.0f, 16.0f));
  EXPECT_EQ(matrix->format, ProductFormat::kBf16);
}

TEST_F(Fp8WeightTest, AMissingScaleIsNamed) {
  const auto matrix =
      OpenFp8("", "").Dequantized({WeightItem::Kind::kLinear, "a.weight", 3, 3, {}});
  EXPECT_EQ(matrix.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(matrix.status().message()), HasSubstr("a.weight_scale_inv"));
}

TEST_F(Fp8WeightTest, AScaleOfAnotherDtypeIsRefusedByNameAndDtype) {
  const auto weight =
      OpenFp8(
          R"(, "a.weight_scale_inv": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [9, 17]})",
          BytesOf<uint16_t>({kBf16One, kBf16One, kBf16One, kBf16One}))
          .Linear("a", 3, 3);
  EXPECT_EQ(weight.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(weight.status().message()),
              AllOf(HasSubstr("a.weight_scale_inv"), HasSubstr("bf16"), HasSubstr("f32")));
}

TEST_F(Fp8WeightTest, AScaleOfAnotherShapeIsRefused) {
  const auto weight =
      OpenFp8(
          R"(, "a.weight_scale_inv": {"dtype": "F32", "shape": [1, 2], "data_offsets": [9, 17]})",
          BytesOf<float>({1.0f, 1.0f}))
          .Linear("a", 3, 3);
  EXPECT_EQ(weight.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(weight.status().message()), HasSubstr("a.weight_scale_inv"));
}

TEST_F(Fp8WeightTest, WithoutABlockSizeInTheConfigurationTheFieldIsNamed) {
  config_.weight_block_outputs = config_.weight_block_inputs = 0;
  const auto weight = OpenFp8(kScales, BytesOf<float>({1, 1, 1, 1})).Linear("a", 3, 3);
  EXPECT_EQ(weight.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(weight.status().message()), HasSubstr("weight_block_size"));
}

TEST_F(Fp8WeightTest, AnEmbeddingInFp8IsRefused) {
  const auto table = OpenFp8(kScales, BytesOf<float>({1, 1, 1, 1})).Rows("a", 3, 3);
  EXPECT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(table.status().message()), HasSubstr("fp8"));
}

TEST_F(WeightLoaderTest, AnEmbeddingStaysAsStoredExceptF16WhichWidens) {
  WeightLoader& loader =
      Open(R"({"b.weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]},
               "h.weight": {"dtype": "F16", "shape": [1, 2], "data_offsets": [4, 8]}})",
           BytesOf<uint16_t>({kBf16One, kBf16Two, 0x3c00, 0x4000}));
  const auto stored = loader.Rows("b", 1, 2);
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->dtype, DType::kBf16);
  EXPECT_EQ(stored->data.as<uint16_t>()[1], kBf16Two);
  const auto widened = loader.Rows("h", 1, 2);
  ASSERT_TRUE(widened.ok()) << widened.status();
  EXPECT_EQ(widened->dtype, DType::kF32);
  EXPECT_EQ(widened->data.as<float>()[1], 2.0f);
}

TEST_F(WeightLoaderTest, WhatIsMissingOrHasAnotherShapeIsNamed) {
  CheckpointLoader& loader = Open(kBf16Weight, BytesOf<uint16_t>({kBf16One, kBf16Two}));
  const absl::Status missing = loader.Linear("z", 2, 1).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("z.weight"));
  const absl::Status wrong = loader.Linear("a", 1, 2).status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(wrong.message()), HasSubstr("a.weight"));
  EXPECT_FALSE(loader.FeedForward("p", 2, 1).ok());
}

}  // namespace
}  // namespace orrery
