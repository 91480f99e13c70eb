// EncodeRows and DecodeRows of every implementation: exact.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

class Rows : public KernelsConformance {
 protected:
  std::vector<std::byte> Encode(TestMatrix& rows, RowFormat format) {
    const Matrix view = rows.view();
    const size_t num_bytes = view.num_rows * EncodedRowBytes(format, view.num_cols);
    std::vector<std::byte> encoded(num_bytes + 1, std::byte{0xab});
    kernels_->EncodeRows(view, format, encoded.data());
    EXPECT_EQ(encoded.back(), std::byte{0xab});
    encoded.pop_back();
    return encoded;
  }
};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Rows);

constexpr int kWidths[] = {1, 2, 3, 5, 16, 17, 127, 128, 129, 257};

TEST_P(Rows, ArePackedAsTheHeaderSays) {
  EXPECT_EQ(EncodedRowBytes(RowFormat::kF32, 7), 28u);
  EXPECT_EQ(EncodedRowBytes(RowFormat::kBf16, 7), 14u);
  EXPECT_EQ(EncodedRowBytes(RowFormat::kFp8, 7), 8u + 4u);
  EXPECT_EQ(EncodedRowBytes(RowFormat::kFp8, 129), 132u + 8u);
  EXPECT_EQ(EncodedRowBytes(RowFormat::kFp8, 7168), 7168u + 56u * 4u);
}

TEST_P(Rows, SurviveF32Exactly) {
  for (int width : kWidths) {
    TestMatrix rows(3, width, RandomValues(width).Make(3 * width));
    TestMatrix decoded(3, width);
    kernels_->DecodeRows(Encode(rows, RowFormat::kF32).data(), RowFormat::kF32, decoded.view());
    EXPECT_TRUE(SameBits(decoded.Values(), rows.Values()));
    EXPECT_TRUE(decoded.GapsAreUntouched());
  }
}

TEST_P(Rows, AreRoundedToBf16AsDtypesSays) {
  for (int width : kWidths) {
    TestMatrix rows(3, width, RandomValues(width).Make(3 * width));
    TestMatrix decoded(3, width);
    kernels_->DecodeRows(Encode(rows, RowFormat::kBf16).data(), RowFormat::kBf16, decoded.view());
    std::vector<float> want = rows.Values();
    for (float& value : want) value = RoundToBf16(value);
    EXPECT_TRUE(SameBits(decoded.Values(), want));
  }
}

// Groups whose largest value is 448 have the scale 1. Every code, what lies half way to the next one,
// a little less, and a little more.
TEST_P(Rows, RoundToTheNearestFp8CodeEvenOnTies) {
  std::vector<float> values;
  for (int code = 0; code < 0x7f; ++code) {
    const float value = Fp8E4m3ToF32(static_cast<uint8_t>(code));
    const float next = code < 0x7e ? Fp8E4m3ToF32(static_cast<uint8_t>(code + 1)) : 464.0f;
    const float half_way = (value + next) / 2;
    for (const float x :
         {value, std::nextafter(half_way, 0.0f), half_way, std::nextafter(half_way, 1000.0f)}) {
      if (x > 448.0f) continue;
      values.push_back(x);
      values.push_back(-x);
    }
  }
  std::vector<float> row;
  for (const float value : values) {
    if (row.size() % 128 == 0) row.push_back(448.0f);
    row.push_back(value);
  }
  const int width = static_cast<int>(row.size());
  TestMatrix rows(1, width, row);
  std::vector<std::byte> encoded(EncodedRowBytes(RowFormat::kFp8, width));
  kernels_->EncodeRows(rows.view(), RowFormat::kFp8, encoded.data());
  for (int i = 0; i < width; ++i) {
    ASSERT_EQ(std::to_integer<int>(encoded[i]), F32ToFp8E4m3(row[i])) << row[i];
  }
}

TEST_P(Rows, AreRoundedToFp8InGroupsOf128) {
  for (int width : kWidths) {
    for (float scale : {1.0f, 1e-6f, 1e4f}) {
      TestMatrix rows(3, width, RandomValues(width).Make(3 * width, scale));
      const std::vector<float> values = rows.Values();
      const std::vector<std::byte> encoded = Encode(rows, RowFormat::kFp8);
      const size_t row_bytes = EncodedRowBytes(RowFormat::kFp8, width);
      TestMatrix decoded(3, width);
      kernels_->DecodeRows(encoded.data(), RowFormat::kFp8, decoded.view());
      for (int r = 0; r < 3; ++r) {
        const std::byte* row = encoded.data() + r * row_bytes;
        const size_t padded = (width + 3) / 4 * 4;
        for (size_t i = width; i < padded; ++i) EXPECT_EQ(row[i], std::byte{0});
        for (int i = 0; i < width; ++i) {
          const int begin = i / 128 * 128;
          float largest = 1e-4f;
          for (int j = begin; j < std::min(begin + 128, width); ++j) {
            largest = std::max(largest, std::fabs(values[r * width + j]));
          }
          float group_scale;
          std::memcpy(&group_scale, row + padded + i / 128 * 4, 4);
          ASSERT_EQ(group_scale, largest / 448.0f);
          const uint8_t code = F32ToFp8E4m3(values[r * width + i] / group_scale);
          ASSERT_EQ(std::to_integer<uint8_t>(row[i]), code) << "value " << i;
          ASSERT_EQ(decoded.view().row(r)[i], Fp8E4m3ToF32(code) * group_scale);
        }
      }
    }
  }
}

TEST_P(Rows, OfZerosStayZeros) {
  TestMatrix rows(1, 130, std::vector<float>(130, 0.0f));
  TestMatrix decoded(1, 130);
  kernels_->DecodeRows(Encode(rows, RowFormat::kFp8).data(), RowFormat::kFp8, decoded.view());
  EXPECT_EQ(decoded.Values(), std::vector<float>(130, 0.0f));
}

TEST_P(Rows, MayBeNone) {
  TestMatrix rows(0, 5);
  for (RowFormat format : {RowFormat::kF32, RowFormat::kBf16, RowFormat::kFp8}) {
    EXPECT_TRUE(Encode(rows, format).empty());
    kernels_->DecodeRows(nullptr, format, rows.view());
  }
}

}  // namespace
}  // namespace orrery
