// Kernels that walk along rows: one block per row, thread i takes elements i, i + 128, ...
//
// Sums of a row (squares, exponentials): each thread adds its elements in order, then SumOfBlock.

#include "base/check.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device_math.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

__device__ float StoredValue(DType dtype, const void* data, int64_t index) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(data)[index];
  return dtype == DType::kBf16 ? Bf16ToF32(bits) : F16ToF32(bits);
}

__global__ void EmbedRow(DType dtype, const void* table, const int32_t* ids, Matrix out) {
  const int64_t r = blockIdx.x;
  for (int64_t i = threadIdx.x; i < out.num_cols; i += kBlockThreads) {
    out.row(r)[i] = StoredValue(dtype, table, ids[r] * out.num_cols + i);
  }
}

__global__ void NormRow(ConstMatrix x, const float* weight, float eps, Matrix out) {
  const float* const from = x.row(blockIdx.x);
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < x.num_cols; i += kBlockThreads)
    sum = fmaf(from[i], from[i], sum);
  const float mean = SumOfBlock(sum) / static_cast<float>(x.num_cols);
  const float root = sqrtf(mean + eps);
  for (int64_t i = threadIdx.x; i < x.num_cols; i += kBlockThreads) {
    out.row(blockIdx.x)[i] = weight[i] * (from[i] / root);
  }
}

struct RopeHeads {
  int num_heads;
  int head_stride;
  RopePairing pairing;
};

__device__ void Rotate(float* row, const RopeHeads& heads, int64_t position,
                       const RopeTable& table) {
  const int num_pairs = table.dim / 2;
  const bool interleaved = heads.pairing == RopePairing::kInterleaved;
  const float* const cos = table.cos + position * num_pairs;
  const float* const sin = table.sin + position * num_pairs;
  for (int64_t index = threadIdx.x; index < int64_t{heads.num_heads} * num_pairs;
       index += kBlockThreads) {
    const int64_t head = index / num_pairs, i = index % num_pairs;
    float* const vector = row + head * heads.head_stride;
    float& a = interleaved ? vector[2 * i] : vector[i];
    float& b = interleaved ? vector[2 * i + 1] : vector[i + num_pairs];
    const float rotated_a = fmaf(a, cos[i], -(b * sin[i]));
    const float rotated_b = fmaf(a, sin[i], b * cos[i]);
    a = rotated_a;
    b = rotated_b;
  }
}

__global__ void RopeRow(Matrix x, RopeHeads heads, int first_position, RopeTable table) {
  Rotate(x.row(blockIdx.x), heads, first_position + int64_t{blockIdx.x}, table);
}

__global__ void RopePlacedRow(Matrix x, RopeHeads heads, DevicePlaces places, RopeTable table) {
  const int position = places.rows[blockIdx.x].position;
  if (position >= 0) Rotate(x.row(blockIdx.x), heads, position, table);
}

__global__ void AddRow(ConstMatrix y, Matrix x) {
  for (int64_t i = threadIdx.x; i < x.num_cols; i += kBlockThreads) {
    x.row(blockIdx.x)[i] += y.row(blockIdx.x)[i];
  }
}

__global__ void CopyRow(ConstMatrix from, Matrix to) {
  for (int64_t i = threadIdx.x; i < to.num_cols; i += kBlockThreads) {
    to.row(blockIdx.x)[i] = from.row(blockIdx.x)[i];
  }
}

__global__ void WeightedSumRow(ConstMatrix rows, const float* weights, int topk, Matrix out) {
  const int64_t first = int64_t{blockIdx.x} * topk;
  for (int64_t i = threadIdx.x; i < out.num_cols; i += kBlockThreads) {
    float sum = 0.0f;
    for (int64_t j = first; j < first + topk; ++j) sum = fmaf(weights[j], rows.row(j)[i], sum);
    out.row(blockIdx.x)[i] = sum;
  }
}

__global__ void LogSoftmaxRow(ConstMatrix logits, Matrix out) {
  const float* const from = logits.row(blockIdx.x);
  float max = -kInfinity;
  for (int64_t i = threadIdx.x; i < logits.num_cols; i += kBlockThreads) {
    max = Larger(max, from[i]);
  }
  max = MaxOfBlock(max);
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < logits.num_cols; i += kBlockThreads) {
    sum += Exp(from[i] - max);
  }
  const float log_sum = static_cast<float>(Log(SumOfBlock(sum)));
  for (int64_t i = threadIdx.x; i < logits.num_cols; i += kBlockThreads) {
    out.row(blockIdx.x)[i] = from[i] - max - log_sum;
  }
}

}  // namespace

void CudaKernels::Embed(DType dtype, const void* table, absl::Span<const int32_t> ids, Matrix out) {
  ORRERY_CHECK(out.num_rows == static_cast<int64_t>(ids.size()))
      << ids.size() << " ids, " << out.num_rows << " rows";
  ORRERY_CHECK(dtype != DType::kFp8E4m3) << "an embedding table in fp8";
  staging_.Reserve(ids.size() * sizeof(int32_t) + kStagingAlignment);
  Launch("Embed", EmbedRow, {out.num_rows, kBlockThreads}, dtype, table, staging_.Put(ids), out);
}

void CudaKernels::RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) {
  CheckSameShape(x, out);
  Launch("RmsNorm", NormRow, {x.num_rows, kBlockThreads}, x, weight, eps, out);
}

void CudaKernels::Rope(Matrix x, int num_heads, int head_stride, int first_position,
                       RopePairing pairing, const RopeTable& table) {
  CheckRope(x, num_heads, head_stride, first_position, table);
  Launch("Rope", RopeRow, {x.num_rows, kBlockThreads}, x,
         RopeHeads{num_heads, head_stride, pairing}, first_position, table);
}

void CudaKernels::RopeBatch(Matrix x, int num_heads, int head_stride, const RowPlaces& places,
                            RopePairing pairing, const RopeTable& table) {
  const CudaRowPlaces* const placed = PlacedRows(places, x);
  if (placed == nullptr) {
    return Kernels::RopeBatch(x, num_heads, head_stride, places, pairing, table);
  }
  CheckRope(x.Rows(0, 1), num_heads, head_stride, /*first_position=*/0, table);
  Launch("Rope", RopePlacedRow, {x.num_rows, kBlockThreads}, x,
         RopeHeads{num_heads, head_stride, pairing}, placed->on_device(), table);
}

void CudaKernels::Add(ConstMatrix y, Matrix x) {
  CheckSameShape(y, x);
  Launch("Add", AddRow, {x.num_rows, kBlockThreads}, y, x);
}

void CudaKernels::Copy(ConstMatrix from, Matrix to) {
  CheckSameShape(from, to);
  Launch("Copy", CopyRow, {to.num_rows, kBlockThreads}, from, to);
}

void CudaKernels::WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) {
  CheckWeightedSum(rows, topk, out);
  Launch("WeightedSum", WeightedSumRow, {out.num_rows, kBlockThreads}, rows, weights, topk, out);
}

void CudaKernels::LogSoftmax(ConstMatrix logits, Matrix out) {
  CheckSameShape(logits, out);
  Launch("LogSoftmax", LogSoftmaxRow, {logits.num_rows, kBlockThreads}, logits, out);
}

}  // namespace orrery
