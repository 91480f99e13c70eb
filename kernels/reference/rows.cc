#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/dtypes.h"
#include "kernels/fp8_row_layout.h"
#include "kernels/reference/reference_kernels.h"

namespace orrery {
namespace {

void EncodeFp8(const float* row, const Fp8RowLayout& layout, std::byte* encoded) {
  std::memset(encoded, 0, layout.row_bytes());  // the padding as well
  for (int group = 0; group < layout.num_groups(); ++group) {
    float largest = kFp8SmallestGroupMax;
    for (int i = layout.group_begin(group); i < layout.group_end(group); ++i) {
      largest = std::max(largest, std::fabs(row[i]));
    }
    const float scale = largest / kFp8Max;
    std::memcpy(encoded + layout.scale_offset(group), &scale, sizeof(scale));
    for (int i = layout.group_begin(group); i < layout.group_end(group); ++i) {
      encoded[i] = std::byte{F32ToFp8E4m3(row[i] / scale)};
    }
  }
}

void DecodeFp8(const std::byte* encoded, const Fp8RowLayout& layout, float* row) {
  for (int group = 0; group < layout.num_groups(); ++group) {
    float scale;
    std::memcpy(&scale, encoded + layout.scale_offset(group), sizeof(scale));
    for (int i = layout.group_begin(group); i < layout.group_end(group); ++i) {
      row[i] = Fp8E4m3ToF32(std::to_integer<uint8_t>(encoded[i])) * scale;
    }
  }
}

}  // namespace

void ReferenceKernels::EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) {
  const int width = static_cast<int>(rows.num_cols);
  const size_t row_bytes = EncodedRowBytes(format, width);
  for (int64_t r = 0; r < rows.num_rows; ++r, encoded += row_bytes) {
    const float* row = rows.row(r);
    if (format == RowFormat::kF32) std::memcpy(encoded, row, row_bytes);
    if (format == RowFormat::kFp8) EncodeFp8(row, Fp8RowLayout(width), encoded);
    if (format != RowFormat::kBf16) continue;
    for (int i = 0; i < width; ++i) {
      const uint16_t bits = F32ToBf16(row[i]);
      std::memcpy(encoded + i * sizeof(bits), &bits, sizeof(bits));
    }
  }
}

void ReferenceKernels::DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) {
  const int width = static_cast<int>(rows.num_cols);
  const size_t row_bytes = EncodedRowBytes(format, width);
  for (int64_t r = 0; r < rows.num_rows; ++r, encoded += row_bytes) {
    float* row = rows.row(r);
    if (format == RowFormat::kF32) std::memcpy(row, encoded, row_bytes);
    if (format == RowFormat::kFp8) DecodeFp8(encoded, Fp8RowLayout(width), row);
    if (format != RowFormat::kBf16) continue;
    for (int i = 0; i < width; ++i) {
      uint16_t bits;
      std::memcpy(&bits, encoded + i * sizeof(bits), sizeof(bits));
      row[i] = Bf16ToF32(bits);
    }
  }
}

}  // namespace orrery
