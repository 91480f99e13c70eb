#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/dtypes.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {
namespace {

void EncodeFp8(const float* row, const Fp8RowLayout& layout, std::byte* encoded) {
  std::memset(encoded + layout.group_end(layout.num_groups() - 1), 0, 4);  // padding; scales follow
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

void CpuKernels::EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) {
  const ScopedFlushDenormals flush;
  const int width = static_cast<int>(rows.num_cols);
  const size_t row_bytes = EncodedRowBytes(format, width);
  for (int64_t r = 0; r < rows.num_rows; ++r, encoded += row_bytes) {
    switch (format) {
      case RowFormat::kF32:
        std::memcpy(encoded, rows.row(r), row_bytes);
        break;
      case RowFormat::kBf16:
        lanes_.round_row(rows.row(r), width, reinterpret_cast<uint16_t*>(encoded));
        break;
      case RowFormat::kFp8:
        EncodeFp8(rows.row(r), Fp8RowLayout(width), encoded);
        break;
    }
  }
}

void CpuKernels::DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) {
  const ScopedFlushDenormals flush;
  const int width = static_cast<int>(rows.num_cols);
  const size_t row_bytes = EncodedRowBytes(format, width);
  for (int64_t r = 0; r < rows.num_rows; ++r, encoded += row_bytes) {
    switch (format) {
      case RowFormat::kF32:
        std::memcpy(rows.row(r), encoded, row_bytes);
        break;
      case RowFormat::kBf16:
        lanes_.widen_row(reinterpret_cast<const uint16_t*>(encoded), width, rows.row(r));
        break;
      case RowFormat::kFp8:
        DecodeFp8(encoded, Fp8RowLayout(width), rows.row(r));
        break;
    }
  }
}

}  // namespace orrery
