// Rows as products read them: one block of threads per row. In fp8, a warp per group of 128 values, whose codes and
// scale are those of EncodeRows.

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/job_array.h"
#include "kernels/cuda/swizzle.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {
namespace {

__device__ void MakeRow(const float* from, int num_cols, int64_t row, const Operand& to) {
  for (int i = static_cast<int>(threadIdx.x); i < to.padded_cols; i += kBlockThreads) {
    const float value = i < num_cols ? from[i] : 0.0f;
    const int64_t at = row * to.padded_cols + i;
    if (to.form == OperandForm::kBf16) {
      reinterpret_cast<uint16_t*>(to.values)[at] = FlushedBf16(value);
    } else {
      reinterpret_cast<float*>(to.values)[at] = value;
    }
  }
}

// A lane has four values of a group on end.
__device__ void MakeFp8Row(const float* from, int num_cols, int64_t row, const Operand& to) {
  constexpr int kLaneValues = kFp8GroupSize / kWarpThreads;
  for (int group = WarpOfThread(); group * kFp8GroupSize < to.padded_cols; group += kBlockWarps) {
    const int in_group = LaneOfThread() * kLaneValues;
    const int first = group * kFp8GroupSize + in_group;
    float value[kLaneValues], largest = 0.0f;
    for (int i = 0; i < kLaneValues; ++i) {
      value[i] = first + i < num_cols ? from[first + i] : 0.0f;
      largest = Larger(fabsf(value[i]), largest);
    }
    const float scale = Fp8Scale(MaxOfWarp(largest));
    if (LaneOfThread() == 0) to.scales[group * to.padded_rows + row] = scale;
    if (first >= to.padded_cols) continue;
    uint8_t code[kLaneValues];
    for (int i = 0; i < kLaneValues; ++i) code[i] = F32ToFp8E4m3(value[i] / scale);
    if (to.form == OperandForm::kSwizzled) {
      std::byte* const slab = to.values + group * to.padded_rows * kSlabBytes;
      *reinterpret_cast<uint32_t*>(slab + SwizzledOffset(row, in_group)) =
          code[0] | code[1] << 8 | code[2] << 16 | static_cast<uint32_t>(code[3]) << 24;
    } else {
      uint32_t* const pairs =
          reinterpret_cast<uint32_t*>(to.values) + (row * to.padded_cols + first) / 2;
      for (int i = 0; i < kLaneValues; i += 2) {
        pairs[i / 2] =
            PairOfBf16(F32ToBf16(Fp8E4m3ToF32(code[i])), F32ToBf16(Fp8E4m3ToF32(code[i + 1])));
      }
    }
  }
}

__global__ void MakeOperandRow(const OperandJob* jobs, int num_jobs) {
  const OperandJob& job = JobOfBlock(jobs, num_jobs);
  const int64_t row = blockIdx.x - job.first_block;
  const int num_cols = static_cast<int>(job.x.num_cols);
  if (HasScales(job.to.form)) {
    MakeFp8Row(job.x.row(row), num_cols, row, job.to);
  } else {
    MakeRow(job.x.row(row), num_cols, row, job.to);
  }
}

}  // namespace

void CudaKernels::MakeOperands() {
  int64_t num_blocks = 0;
  for (OperandJob& job : operand_jobs_) {
    job.first_block = num_blocks;
    num_blocks += job.x.num_rows;
  }
  Launch("MakeOperands", MakeOperandRow, {num_blocks, kBlockThreads},
         staging_.Put(absl::MakeConstSpan(operand_jobs_)), static_cast<int>(operand_jobs_.size()));
  operand_jobs_.clear();
}

}  // namespace orrery
