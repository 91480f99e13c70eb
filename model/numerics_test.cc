#include "model/numerics.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Precision kPrecisions[] = {Precision::kBf16, Precision::kF32};
constexpr WeightFormat kWeightFormats[] = {WeightFormat::kStored, WeightFormat::kInt8,
                                           WeightFormat::kInt4};
constexpr FfnProducts kFfnProducts[] = {FfnProducts::kPrecision, FfnProducts::kFp8};
constexpr RowFormat kRowFormats[] = {RowFormat::kF32, RowFormat::kBf16, RowFormat::kFp8};

TEST(NumericsId, DiffersForEverySetting) {
  std::set<std::string> ids;
  int num_settings = 0;
  for (const Precision precision : kPrecisions) {
    for (const RowFormat rows : kRowFormats) {
      for (const char* family : {"x86-1", "x86-2", "reference-1"}) {
        for (const WeightFormat weights : kWeightFormats) {
          for (const FfnProducts products : kFfnProducts) {
            for (const WeightFormat linear : kWeightFormats) {
              ids.insert(NumericsId({.precision = precision,
                                     .row_format = rows,
                                     .ffn_weights = weights,
                                     .ffn_products = products,
                                     .linear_weights = linear},
                                    family));
              ++num_settings;
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(ids.size(), num_settings);
}

// Written down, because members of two builds compare it: a change here splits a cluster.
TEST(NumericsId, NamesWhatBitsDependOn) {
  EXPECT_EQ(NumericsId({.precision = Precision::kBf16, .row_format = RowFormat::kBf16}, "x86-1"),
            "x86-1 ffn=stored act=bf16 kv=bf16 rows=bf16/bf16 cell=1");
  EXPECT_EQ(NumericsId({.precision = Precision::kF32, .row_format = RowFormat::kFp8}, "x86-1"),
            "x86-1 ffn=stored act=f32 kv=f32 rows=fp8/bf16 cell=1");
  EXPECT_EQ(NumericsId({.ffn_products = FfnProducts::kFp8}, "cuda-wgmma-1-sm90"),
            "cuda-wgmma-1-sm90 ffn=stored/fp8 act=bf16 kv=bf16 rows=bf16/bf16 cell=1");
}

TEST(Numerics, PrecisionDecidesProductsAndCache) {
  EXPECT_EQ(Numerics{.precision = Precision::kF32}.product_format(), ProductFormat::kF32);
  EXPECT_EQ(Numerics{.precision = Precision::kF32}.kv_format(), DType::kF32);
  EXPECT_EQ(Numerics{.precision = Precision::kBf16}.product_format(), ProductFormat::kBf16);
  EXPECT_EQ(Numerics{.precision = Precision::kBf16}.kv_format(), DType::kBf16);
}

TEST(Numerics, ProductsOfFeedForwardsFollowThePrecisionUnlessTheyAreFp8) {
  EXPECT_EQ(Numerics{}.ffn_product_format(), ProductFormat::kBf16);
  EXPECT_EQ(Numerics{.precision = Precision::kF32}.ffn_product_format(), ProductFormat::kF32);
  EXPECT_EQ(Numerics{.ffn_products = FfnProducts::kFp8}.ffn_product_format(), ProductFormat::kFp8);
}

TEST(Numerics, RowsComeBackAsTheyWentOutExceptFp8WhichComesBackAsBf16) {
  EXPECT_EQ(Numerics{.row_format = RowFormat::kF32}.result_format(), RowFormat::kF32);
  EXPECT_EQ(Numerics{.row_format = RowFormat::kBf16}.result_format(), RowFormat::kBf16);
  EXPECT_EQ(Numerics{.row_format = RowFormat::kFp8}.result_format(), RowFormat::kBf16);
}

TEST(Numerics, NamesReadBackAsWhatTheyName) {
  for (const Precision precision : kPrecisions) {
    const auto parsed = ParsePrecision(PrecisionName(precision));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, precision);
  }
  for (const RowFormat format : kRowFormats) {
    const auto parsed = ParseRowFormat(RowFormatName(format));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, format);
  }
}

TEST(Numerics, WeightFormatNamesReadBackAsWhatTheyName) {
  for (const WeightFormat format : kWeightFormats) {
    const auto parsed = ParseWeightFormat(WeightFormatName(format));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, format);
  }
}

TEST(Numerics, UnknownNamesAreRefusedWithTheValueAndTheChoice) {
  for (const char* name : {"", "BF16", "fp16", "bf16 "}) {
    const auto precision = ParsePrecision(name);
    EXPECT_EQ(precision.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(precision.status().message()),
                AllOf(HasSubstr("'" + std::string(name) + "'"), HasSubstr("bf16 or f32")));
    const auto rows = ParseRowFormat(name);
    EXPECT_EQ(rows.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(rows.status().message()),
                AllOf(HasSubstr("'" + std::string(name) + "'"), HasSubstr("bf16, f32 or fp8")));
    const auto weights = ParseWeightFormat(name);
    EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(weights.status().message()),
                AllOf(HasSubstr("'" + std::string(name) + "'"), HasSubstr("stored, int8 or int4")));
  }
  EXPECT_FALSE(ParsePrecision("fp8").ok());  // rows only
}

}  // namespace
}  // namespace orrery
