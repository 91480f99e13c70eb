// Products of fp8 codes on sm_90a, many in one launch.
//
// The canonical sum of one result, whatever the number of rows:
//
//   block sum   of 128 inputs: a chain of four wgmma.m64n64k32 from zero. Within it the tensor cores keep some 14 bits
//               (DeepSeek-V3 technical report, 3.3.2), hence
//   total       = fma(weight's scale * row's scale, block sum, total), over the blocks in order, in f32
//   result      total, then + bias
//
// Gate and up leave codes for down: inner = silu(gate) * up in groups of 128 outputs, which are those of one block
// of threads, with the scale and the codes that EncodeRows would give them.

#include "kernels/cuda/job_array.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/wgmma_product.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {
namespace {

using OneProduct = WgmmaProduct<1>;
using GateAndUp = WgmmaProduct<2>;
static_assert(GateAndUp::kOutputs == kFp8GroupSize);

// Of 65,536 registers, 384 threads get 168 each when they start. Those that copy leave most of theirs.
constexpr int kCopierRegisters = 40, kMultiplierRegisters = 232;
static_assert(kCopierRegisters * kWarpgroupThreads + kMultiplierRegisters * kMultiplierThreads <=
              168 * kProductThreads);

// Outputs of a weight in parts of 128, rows in parts of max_rows; rows change fastest, so that blocks of threads that
// share a weight run at about the same time.
int64_t NumParts(const DeviceWeight& weight, int64_t num_rows, int max_rows) {
  return (num_rows + max_rows - 1) / max_rows * (weight.num_tiles / kMultipliers);
}
template <typename Product>
__device__ typename Product::Part PartOfBlock(int64_t block, int64_t num_rows) {
  const int64_t num_row_parts = (num_rows + Product::kMaxRows - 1) / Product::kMaxRows;
  typename Product::Part part = {};
  part.first_output = static_cast<int>(block / num_row_parts) * Product::kOutputs;
  part.first_row = block % num_row_parts * Product::kMaxRows;
  const int64_t rows_left = num_rows - part.first_row;
  part.num_rows = static_cast<int>(rows_left < Product::kMaxRows ? rows_left : Product::kMaxRows);
  return part;
}

__global__ void __launch_bounds__(kProductThreads, 1)
    WgmmaMatmul(const MatmulJob* jobs, int num_jobs) {
#if ORRERY_SM90A
  const MatmulJob& job = JobOfBlock(jobs, num_jobs);
  OneProduct::Part part = PartOfBlock<OneProduct>(blockIdx.x - job.first_block, job.out.num_rows);
  part.weights[0] = &job.weight;
  part.operand = job.operand;
  const OneProduct product(part, ptx::DynamicSharedMemory());
  product.Begin();
  if (threadIdx.x >= kMultiplierThreads) {
    ptx::LeaveRegisters<kCopierRegisters>();
    if (threadIdx.x == kMultiplierThreads) product.Copy();
  } else {
    ptx::TakeRegisters<kMultiplierRegisters>();
    OneProduct::Totals totals;
    product.Multiply(totals);
    const Matrix out = job.out;
    const float* const bias = job.bias;
    const int num_outputs = job.weight.num_outputs;
    ORRERY_UNROLL
    for (int piece = 0; piece < OneProduct::kRowPieces; ++piece) {
      ORRERY_UNROLL
      for (int i = 0; i < 32; ++i) {
        const int row = piece * kPieceRows + OneProduct::RowOf(i);
        const int output = part.first_output + OneProduct::OutputOf(i);
        if (row < part.num_rows && output < num_outputs) {
          const float result = totals[piece][0][i];
          out.row(part.first_row + row)[output] = bias == nullptr ? result : result + bias[output];
        }
      }
    }
  }
#endif
}

// The largest magnitudes of a part's rows, of each warp's outputs by themselves.
using Largest = float[kMultiplierThreads / kWarpThreads][GateAndUp::kMaxRows];

#if ORRERY_SM90A
// inner: as sums, [pieces of rows]. All outputs of a row make one group.
__device__ void StoreCodes(const float (&inner)[GateAndUp::kRowPieces][32],
                           const GateAndUp::Part& part, const Operand& to, Largest& largest) {
  ORRERY_UNROLL
  for (int piece = 0; piece < GateAndUp::kRowPieces; ++piece) {
    ORRERY_UNROLL
    for (int i = 0; i < 32; ++i) {
      if (i % 4 >= 2) continue;  // with its output, the one eight further
      float value = Larger(fabsf(inner[piece][i]), fabsf(inner[piece][i + 2]));
      for (int step = 4; step < kWarpThreads; step *= 2) {
        value = Larger(__shfl_xor_sync(kAllLanes, value, step), value);
      }
      if (LaneOfThread() < 4) {
        largest[WarpOfThread()][piece * kPieceRows + GateAndUp::RowOf(i)] = value;
      }
    }
  }
  ptx::MeetAt(1, kMultiplierThreads);
  const int64_t group = part.first_output / kFp8GroupSize;
  ORRERY_UNROLL
  for (int piece = 0; piece < GateAndUp::kRowPieces; ++piece) {
    ORRERY_UNROLL
    for (int i = 0; i < 32; ++i) {
      if (i % 4 >= 2) continue;
      const int row = piece * kPieceRows + GateAndUp::RowOf(i);
      if (row >= part.num_rows) continue;
      float of_row = largest[0][row];
      for (int warp = 1; warp < kMultiplierThreads / kWarpThreads; ++warp) {
        of_row = Larger(largest[warp][row], of_row);
      }
      const float scale = Fp8Scale(of_row);
      const int64_t at = group * to.padded_rows + part.first_row + row;
      if (GateAndUp::OutputOf(i) == 0) to.scales[at] = scale;
      std::byte* const slab = to.values + group * to.padded_rows * kSlabBytes;
      for (int half = 0; half < 2; ++half) {
        slab[SwizzledOffset(part.first_row + row, GateAndUp::OutputOf(i + 2 * half))] =
            std::byte{F32ToFp8E4m3(inner[piece][i + 2 * half] / scale)};
      }
    }
  }
}
#endif

constexpr size_t kGateUpSharedBytes = GateAndUp::SharedBytes() + sizeof(Largest);

__global__ void __launch_bounds__(kProductThreads, 1)
    WgmmaGateUp(const GateUpJob* jobs, int num_jobs) {
#if ORRERY_SM90A
  const GateUpJob& job = JobOfBlock(jobs, num_jobs);
  GateAndUp::Part part = PartOfBlock<GateAndUp>(blockIdx.x - job.first_block, job.num_rows);
  part.weights[0] = &job.gate;
  part.weights[1] = &job.up;
  part.operand = job.gate_operand;
  std::byte* const memory = ptx::DynamicSharedMemory();
  const GateAndUp product(part, memory);
  product.Begin();
  if (threadIdx.x >= kMultiplierThreads) {
    ptx::LeaveRegisters<kCopierRegisters>();
    if (threadIdx.x == kMultiplierThreads) product.Copy();
  } else {
    ptx::TakeRegisters<kMultiplierRegisters>();
    GateAndUp::Totals totals;
    product.Multiply(totals);
    float inner[GateAndUp::kRowPieces][32];
    ORRERY_UNROLL
    for (int piece = 0; piece < GateAndUp::kRowPieces; ++piece) {
      ORRERY_UNROLL
      for (int i = 0; i < 32; ++i) {
        inner[piece][i] =
            Silu(totals[piece][0][i]) * totals[piece][1][i];  // padding is silu(0) * 0
      }
    }
    StoreCodes(inner, part, job.inner,
               *reinterpret_cast<Largest*>(memory + GateAndUp::SharedBytes()));
  }
#endif
}

int64_t NumMatmulParts(const MatmulJob& job) {
  return NumParts(job.weight, job.out.num_rows, OneProduct::kMaxRows);
}
int64_t NumGateUpParts(const GateUpJob& job) {
  return NumParts(job.gate, job.num_rows, GateAndUp::kMaxRows);
}

}  // namespace

ProductKernels WgmmaProducts() {
  return {{WgmmaMatmul, NumMatmulParts, kProductThreads, OneProduct::SharedBytes()},
          {WgmmaGateUp, NumGateUpParts, kProductThreads, kGateUpSharedBytes}};
}

}  // namespace orrery
