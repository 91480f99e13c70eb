// Rows of hidden state as bytes and back: one block per row. In fp8, one warp per group of 128 values.

#include "base/check.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device_math.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {
namespace {

__device__ void EncodeFp8(const float* from, const Fp8RowLayout& layout, int width, std::byte* to) {
  auto* const codes = reinterpret_cast<uint8_t*>(to);
  for (int group = WarpOfThread(); group < layout.num_groups(); group += kBlockWarps) {
    const int begin = layout.group_begin(group), end = layout.group_end(group);
    float largest = 0.0f;
    for (int i = begin + LaneOfThread(); i < end; i += kWarpThreads) {
      largest = Larger(fabsf(from[i]), largest);
    }
    const float scale = Fp8Scale(MaxOfWarp(largest));
    if (LaneOfThread() == 0) *reinterpret_cast<float*>(to + layout.scale_offset(group)) = scale;
    for (int i = begin + LaneOfThread(); i < end; i += kWarpThreads) {
      codes[i] = F32ToFp8E4m3(from[i] / scale);
    }
  }
  const int padded = static_cast<int>(layout.scale_offset(0));
  for (int i = width + static_cast<int>(threadIdx.x); i < padded; i += kBlockThreads) codes[i] = 0;
}

__global__ void EncodeRow(ConstMatrix rows, RowFormat format, int64_t row_bytes,
                          std::byte* encoded) {
  const float* const from = rows.row(blockIdx.x);
  std::byte* const to = encoded + blockIdx.x * row_bytes;
  const int width = static_cast<int>(rows.num_cols);
  if (format == RowFormat::kFp8) return EncodeFp8(from, Fp8RowLayout(width), width, to);
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kBlockThreads) {
    if (format == RowFormat::kF32) reinterpret_cast<float*>(to)[i] = from[i];
    if (format == RowFormat::kBf16) reinterpret_cast<uint16_t*>(to)[i] = FlushedBf16(from[i]);
  }
}

__global__ void DecodeRow(const std::byte* encoded, RowFormat format, int64_t row_bytes,
                          Matrix rows) {
  const std::byte* const from = encoded + blockIdx.x * row_bytes;
  float* const to = rows.row(blockIdx.x);
  const int width = static_cast<int>(rows.num_cols);
  const Fp8RowLayout layout(width);
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kBlockThreads) {
    if (format == RowFormat::kF32) to[i] = reinterpret_cast<const float*>(from)[i];
    if (format == RowFormat::kBf16) to[i] = Bf16ToF32(reinterpret_cast<const uint16_t*>(from)[i]);
    if (format == RowFormat::kFp8) {
      const auto* const scales = reinterpret_cast<const float*>(from + layout.scale_offset(0));
      to[i] = Fp8E4m3ToF32(static_cast<uint8_t>(from[i])) * scales[i / kFp8GroupSize];
    }
  }
}

// Values are read and written whole.
void CheckBorder(const std::byte* encoded) {
  ORRERY_CHECK(reinterpret_cast<uintptr_t>(encoded) % sizeof(float) == 0)
      << "encoded rows off a border of 4 bytes: " << encoded;
}

}  // namespace

void CudaKernels::EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) {
  CheckBorder(encoded);
  const int64_t row_bytes = EncodedRowBytes(format, static_cast<int>(rows.num_cols));
  Launch("EncodeRows", EncodeRow, {rows.num_rows, kBlockThreads}, rows, format, row_bytes, encoded);
}

void CudaKernels::DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) {
  CheckBorder(encoded);
  const int64_t row_bytes = EncodedRowBytes(format, static_cast<int>(rows.num_cols));
  Launch("DecodeRows", DecodeRow, {rows.num_rows, kBlockThreads}, encoded, format, row_bytes, rows);
}

}  // namespace orrery
