#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {
namespace {

void EncodeFp8Row(const LaneKernels& lanes, const float* row, const Fp8RowLayout& layout,
                  std::byte* encoded) {
  std::memset(encoded + layout.group_end(layout.num_groups() - 1), 0, 4);  // padding; scales follow
  for (int group = 0; group < layout.num_groups(); ++group) {
    const int begin = layout.group_begin(group);
    const int num = layout.group_end(group) - begin;
    const float largest = std::max(kFp8SmallestGroupMax, lanes.largest_magnitude(row + begin, num));
    const float scale = largest / kFp8Max;
    std::memcpy(encoded + layout.scale_offset(group), &scale, sizeof(scale));
    lanes.encode_fp8(row + begin, scale, num, reinterpret_cast<uint8_t*>(encoded + begin));
  }
}

void DecodeFp8Row(const LaneKernels& lanes, const std::byte* encoded, const Fp8RowLayout& layout,
                  float* row) {
  for (int group = 0; group < layout.num_groups(); ++group) {
    float scale;
    std::memcpy(&scale, encoded + layout.scale_offset(group), sizeof(scale));
    const int begin = layout.group_begin(group);
    lanes.decode_fp8(reinterpret_cast<const uint8_t*>(encoded + begin), scale,
                     layout.group_end(group) - begin, row + begin);
  }
}

}  // namespace

void CpuKernels::EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) {
  const int width = static_cast<int>(rows.num_cols);
  const size_t row_bytes = EncodedRowBytes(format, width);
  ShareRows(rows.num_rows, width, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      std::byte* const to = encoded + row * row_bytes;
      switch (format) {
        case RowFormat::kF32:
          std::memcpy(to, rows.row(row), row_bytes);
          break;
        case RowFormat::kBf16:
          lanes_.round_row(rows.row(row), width, reinterpret_cast<uint16_t*>(to));
          break;
        case RowFormat::kFp8:
          EncodeFp8Row(lanes_, rows.row(row), Fp8RowLayout(width), to);
          break;
      }
    }
  });
}

void CpuKernels::DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) {
  const int width = static_cast<int>(rows.num_cols);
  const size_t row_bytes = EncodedRowBytes(format, width);
  ShareRows(rows.num_rows, width, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      const std::byte* const from = encoded + row * row_bytes;
      switch (format) {
        case RowFormat::kF32:
          std::memcpy(rows.row(row), from, row_bytes);
          break;
        case RowFormat::kBf16:
          lanes_.widen_row(reinterpret_cast<const uint16_t*>(from), width, rows.row(row));
          break;
        case RowFormat::kFp8:
          DecodeFp8Row(lanes_, from, Fp8RowLayout(width), rows.row(row));
          break;
      }
    }
  });
}

}  // namespace orrery
