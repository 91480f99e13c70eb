// Products with weights, many in one launch.
//
// A block computes 32 outputs of up to 32 rows; its four warps share the inputs. The canonical sum of
// one result, which depends on the weight's shape and format only:
//
//   the inputs lie in blocks: those of one scale, or a quarter of all where there are none
//   block sum     one chain of mma.sync over its steps of 16 inputs, from zero; or, in f32, one chain
//                 of fused multiply-adds over its inputs, in order
//   warp w        blocks [w n / 4, (w + 1) n / 4): total = fma(scale, block sum, total), in order
//   result        ((warp 0 + warp 1) + warp 2) + warp 3, then + bias
//
// Weights are the rows of the mma (operand A), so that one row of x and many take the same
// instructions; rows are its columns, and do not touch each other.

#include "base/check.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/job_array.h"
#include "kernels/cuda/lane_steps.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/tiled_weight.h"
#include "kernels/cuda/weight_codes.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

constexpr int kBlockOutputs = 2 * kTileOutputs;
constexpr int kBlockRows = 32;
constexpr int kMmaRows = 8;
constexpr int kMmasOfRows = kBlockRows / kMmaRows;
static_assert(kBlockThreads == kProductWarps * kWarpThreads && kBlockOutputs == kWarpThreads);
// Blocks of threads on a multiprocessor, as registers (168 of each thread) and shared memory allow: on sm_86
// shared memory has room for two.
constexpr int kResident = 3;
// Of a block's results, each thread finishes one output of these many rows.
constexpr int kThreadRows = kBlockRows / kProductWarps;

// What one block of threads computes of a product.
struct Tile {
  int first_output;
  int64_t first_row;
  int num_rows;  // at most kBlockRows
};

// The sums of the warps. Rows are padded so that the lanes of a fragment write to different banks: lane
// (g, t) writes word 2 t 36 + g, and 72 t mod 32 = 8 t.
constexpr int kPaddedOutputs = kBlockOutputs + 4;
using WarpSums = float[kProductWarps][kBlockRows][kPaddedOutputs];

// What a block keeps in shared memory: first the steps that are on their way, then the sums.
union ProductMemory {
  alignas(16) std::byte steps[kStepsBytes];
  WarpSums sums;
};
static_assert(sizeof(ProductMemory) == kStepsBytes);

// Steps of a block of inputs begin here, and end where the next begins.
__device__ int FirstStep(const DeviceWeight& weight, int block) {
  const int step = block * weight.block_steps;
  return step < weight.num_steps ? step : weight.num_steps;
}

// With tensor cores. operand: bf16.
template <CodeFormat format>
__device__ void SumRounded(const DeviceWeight& weight, const std::byte* operand, const Tile& tile,
                           ProductMemory& memory) {
  const int warp = WarpOfThread(), lane = LaneOfThread(), g = lane / 4, t = lane % 4;
  const int num_mmas = (tile.num_rows + kMmaRows - 1) / kMmaRows;
  const int64_t row_inputs = static_cast<int64_t>(weight.num_steps) * kStepInputs;
  // Elements as in mma's c: [tile][mma][row 0 or 1 of the lane's two rows, then output g + 8].
  float total[2][kMmasOfRows][4] = {};
  const int block_begin = warp * weight.num_blocks / kProductWarps;
  const int block_end = (warp + 1) * weight.num_blocks / kProductWarps;
  LaneSteps<format> steps(memory.steps);
  steps.Begin({.codes = CodesAt<format>(weight, tile.first_output / kTileOutputs, 0, lane),
               .tile_stride = weight.num_steps * kWarpThreads,
               .row = reinterpret_cast<const uint16_t*>(operand) +
                      (tile.first_row + g) * row_inputs + t * kLaneInputs,
               .row_stride = static_cast<int>(kMmaRows * row_inputs),
               .num_rows = num_mmas},
              FirstStep(weight, block_begin), FirstStep(weight, block_end));
  for (int block = block_begin; block < block_end; ++block) {
    float sum[2][kMmasOfRows][4] = {};
    const int step_end = FirstStep(weight, block + 1);
    for (int step = FirstStep(weight, block); step < step_end; ++step) {
      steps.Next();
      FourWords x[kMmasOfRows];
      for (int n = 0; n < kMmasOfRows; ++n) {
        if (n < num_mmas) x[n] = steps.row(n);
      }
      for (int m = 0; m < 2; ++m) {
        const LaneCodes<format> codes = steps.codes(m);
        const FourWords low = Codes<format>::Pairs(codes.half[0]);
        const FourWords high = Codes<format>::Pairs(codes.half[1]);
        for (int k = 0; k < 4; k += 2) {
          const uint32_t a[4] = {low.word[k], high.word[k], low.word[k + 1], high.word[k + 1]};
          for (int n = 0; n < kMmasOfRows; ++n) {
            if (n < num_mmas) {
              const uint32_t b[2] = {x[n].word[k], x[n].word[k + 1]};
              ptx::MmaBf16(sum[m][n], a, b);
            }
          }
        }
      }
    }
    for (int m = 0; m < 2; ++m) {
      for (int half = 0; half < 2; ++half) {
        const int output = tile.first_output + m * kTileOutputs + half * 8 + g;
        const float scale = Scale<format>(weight, output, block);
        for (int n = 0; n < kMmasOfRows; ++n) {
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            total[m][n][i] = fmaf(scale, sum[m][n][i], total[m][n][i]);
          }
        }
      }
    }
  }
  __syncthreads();  // the last warp has read its steps
  for (int m = 0; m < 2; ++m) {
    for (int n = 0; n < kMmasOfRows; ++n) {
      for (int i = 0; i < 4; ++i) {
        memory.sums[warp][n * kMmaRows + 2 * t + i % 2][m * kTileOutputs + i / 2 * 8 + g] =
            total[m][n][i];
      }
    }
  }
}

// With fused multiply-adds. A thread has one output, and goes through the inputs once for every few rows,
// as many as its registers hold. operand: f32.
template <CodeFormat format>
__device__ void SumExact(const DeviceWeight& weight, const std::byte* operand, const Tile& tile,
                         ProductMemory& memory) {
  constexpr int kPassRows = 8;
  const int warp = WarpOfThread(), in_block = LaneOfThread();
  const int output = tile.first_output + in_block;
  const int64_t row_inputs = static_cast<int64_t>(weight.num_steps) * kStepInputs;
  const int block_begin = warp * weight.num_blocks / kProductWarps;
  const int block_end = (warp + 1) * weight.num_blocks / kProductWarps;
  for (int first_row = 0; first_row < tile.num_rows; first_row += kPassRows) {
    const auto* const rows =
        reinterpret_cast<const float*>(operand) + (tile.first_row + first_row) * row_inputs;
    float total[kPassRows] = {};
    for (int block = block_begin; block < block_end; ++block) {
      float sum[kPassRows] = {};
      const int step_end = FirstStep(weight, block + 1);
      for (int step = FirstStep(weight, block); step < step_end; ++step) {
        for (int t = 0; t < kStepInputs / kLaneInputs; ++t) {
          const LaneCodes<format>* const codes =
              CodesAt<format>(weight, output / kTileOutputs, step, output % 8 * 4 + t);
          float values[kLaneInputs];
          ToValues<format>(codes->half[output / 8 % 2], values);
          for (int r = 0; r < kPassRows; ++r) {
            if (first_row + r >= tile.num_rows) break;
            const auto* const x = reinterpret_cast<const FourFloats*>(
                rows + r * row_inputs + step * kStepInputs + t * kLaneInputs);
            for (int i = 0; i < kLaneInputs; i += 4) {
              const FourFloats four = x[i / 4];
              for (int j = 0; j < 4; ++j) sum[r] = fmaf(four.value[j], values[i + j], sum[r]);
            }
          }
        }
      }
      const float scale = Scale<format>(weight, output, block);
      for (int r = 0; r < kPassRows; ++r) total[r] = fmaf(scale, sum[r], total[r]);
    }
    for (int r = 0; r < kPassRows; ++r) memory.sums[warp][first_row + r][in_block] = total[r];
  }
}

template <CodeFormat format>
__device__ void SumInputs(const DeviceWeight& weight, const std::byte* operand, const Tile& tile,
                          ProductMemory& memory) {
  if constexpr (format != CodeFormat::kF32) {
    if (weight.rounds) return SumRounded<format>(weight, operand, tile, memory);
  }
  SumExact<format>(weight, operand, tile, memory);
}

// results[i] is output `lane` of row warp + 4 i of the tile.
__device__ void Product(const DeviceWeight& weight, const std::byte* operand, const Tile& tile,
                        float (&results)[kThreadRows]) {
  __shared__ ProductMemory memory;
  switch (weight.format) {
    case CodeFormat::kF32:
      SumInputs<CodeFormat::kF32>(weight, operand, tile, memory);
      break;
    case CodeFormat::kBf16:
      SumInputs<CodeFormat::kBf16>(weight, operand, tile, memory);
      break;
    case CodeFormat::kFp8:
      SumInputs<CodeFormat::kFp8>(weight, operand, tile, memory);
      break;
    case CodeFormat::kInt8:
      SumInputs<CodeFormat::kInt8>(weight, operand, tile, memory);
      break;
    case CodeFormat::kInt4:
      SumInputs<CodeFormat::kInt4>(weight, operand, tile, memory);
      break;
  }
  __syncthreads();
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = WarpOfThread() + i * kProductWarps, output = LaneOfThread();
    results[i] = memory.sums[0][row][output];
    for (int warp = 1; warp < kProductWarps; ++warp) results[i] += memory.sums[warp][row][output];
  }
  __syncthreads();
}

// Rows change fastest, so that blocks that share a weight run at about the same time.
__device__ Tile TileOfBlock(int64_t block, int64_t num_rows) {
  const int64_t num_row_tiles = (num_rows + kBlockRows - 1) / kBlockRows;
  const int64_t first_row = block % num_row_tiles * kBlockRows;
  const int64_t rows_left = num_rows - first_row;
  return {static_cast<int>(block / num_row_tiles) * kBlockOutputs, first_row,
          static_cast<int>(rows_left < kBlockRows ? rows_left : kBlockRows)};
}

__global__ void MakeOperandRow(const OperandJob* jobs, int num_jobs) {
  const OperandJob& job = JobOfBlock(jobs, num_jobs);
  const int64_t r = blockIdx.x - job.first_block;
  for (int i = static_cast<int>(threadIdx.x); i < job.padded_cols; i += kBlockThreads) {
    const float value = i < job.x.num_cols ? job.x.row(r)[i] : 0.0f;
    const int64_t at = r * job.padded_cols + i;
    if (job.rounds) {
      reinterpret_cast<uint16_t*>(job.to)[at] = FlushedBf16(value);
    } else {
      reinterpret_cast<float*>(job.to)[at] = value;
    }
  }
}

__global__ void __launch_bounds__(kBlockThreads, kResident)
    MatmulTile(const MatmulJob* jobs, int num_jobs) {
  const MatmulJob& job = JobOfBlock(jobs, num_jobs);
  const Tile tile = TileOfBlock(blockIdx.x - job.first_block, job.out.num_rows);
  float results[kThreadRows];
  Product(job.weight, job.operand, tile, results);
  const int output = tile.first_output + LaneOfThread();
  if (output >= job.weight.num_outputs) return;
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = WarpOfThread() + i * kProductWarps;
    if (row >= tile.num_rows) break;
    job.out.row(tile.first_row + row)[output] =
        job.bias == nullptr ? results[i] : results[i] + job.bias[output];
  }
}

__global__ void __launch_bounds__(kBlockThreads, kResident)
    GateUpTile(const GateUpJob* jobs, int num_jobs) {
  const GateUpJob& job = JobOfBlock(jobs, num_jobs);
  const Tile tile = TileOfBlock(blockIdx.x - job.first_block, job.num_rows);
  float inner[kThreadRows];
  // A loop, so that all code of products is here once.
  for (const bool is_up : {false, true}) {
    float results[kThreadRows];
    Product(is_up ? job.up : job.gate, is_up ? job.up_operand : job.gate_operand, tile, results);
    for (int i = 0; i < kThreadRows; ++i) {
      // Padding is silu(0) * 0.
      inner[i] = is_up ? inner[i] * results[i] : Silu(results[i]);
    }
  }
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = WarpOfThread() + i * kProductWarps;
    if (row >= tile.num_rows) break;
    const int64_t at =
        (tile.first_row + row) * job.padded_cols + tile.first_output + LaneOfThread();
    if (job.rounds) {
      reinterpret_cast<uint16_t*>(job.inner)[at] = FlushedBf16(inner[i]);
    } else {
      reinterpret_cast<float*>(job.inner)[at] = inner[i];
    }
  }
}

int64_t NumTiles(const DeviceWeight& weight, int64_t num_rows) {
  return (num_rows + kBlockRows - 1) / kBlockRows * (weight.num_tiles / 2);
}

// Rows in whole mmas: what lies behind the last row is multiplied too, and thrown away.
int64_t OperandBytes(int64_t num_rows, const DeviceWeight& weight) {
  const int64_t padded_rows = (num_rows + kMmaRows - 1) / kMmaRows * kMmaRows;
  return padded_rows * weight.num_steps * kStepInputs * (weight.rounds ? 2 : 4);
}

DeviceWeight Own(const Weight& weight) {
  const auto* own = dynamic_cast<const TiledWeight*>(&weight);
  ORRERY_CHECK(own != nullptr) << "a weight of another implementation";
  return own->on_device();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> CudaKernels::MakeWeight(const WeightSource& source,
                                                                ProductFormat format,
                                                                WeightFormat held) {
  return TiledWeight::Make(source, format, held, stream_->device());
}

absl::StatusOr<std::unique_ptr<Weight>> CudaKernels::MapWeight(const WeightImage& image) {
  return TiledWeight::Map(image, stream_->device());
}

const std::byte* CudaKernels::AddOperand(ConstMatrix x, const DeviceWeight& weight) {
  std::byte* const to = next_operand_;
  operand_jobs_.push_back(
      {num_operand_rows_, x, to, weight.rounds, weight.num_steps * kStepInputs});
  num_operand_rows_ += x.num_rows;
  next_operand_ += OperandBytes(x.num_rows, weight);
  return to;
}

void CudaKernels::MakeOperands() {
  Launch("MakeOperands", MakeOperandRow, {num_operand_rows_, kBlockThreads},
         staging_.Put(absl::MakeConstSpan(operand_jobs_)), static_cast<int>(operand_jobs_.size()));
}

void CudaKernels::BeginJobs(size_t num_jobs, int64_t operand_bytes) {
  staging_.Reserve(num_jobs * (2 * sizeof(OperandJob) + sizeof(GateUpJob) + sizeof(MatmulJob)) +
                   3 * kStagingAlignment);
  next_operand_ = operands_.Get(operand_bytes);
  num_operand_rows_ = 0;
  operand_jobs_.clear();
  gate_up_jobs_.clear();
  matmul_jobs_.clear();
}

void CudaKernels::Multiply() {
  int64_t num_blocks = 0;
  for (MatmulJob& job : matmul_jobs_) {
    job.first_block = num_blocks;
    num_blocks += NumTiles(job.weight, job.out.num_rows);
  }
  Launch("Matmul", MatmulTile, {num_blocks, kBlockThreads},
         staging_.Put(absl::MakeConstSpan(matmul_jobs_)), static_cast<int>(matmul_jobs_.size()));
}

void CudaKernels::Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  CheckMatmul(x, weight, out);
  if (x.num_rows == 0) return;
  const DeviceWeight own = Own(weight);
  BeginJobs(1, OperandBytes(x.num_rows, own));
  matmul_jobs_.push_back({0, own, AddOperand(x, own), bias, out});
  MakeOperands();
  Multiply();
}

void CudaKernels::MatmulHeads(ConstMatrix x, int x_head_stride,
                              absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                              int out_head_stride) {
  CheckMatmulHeads(x, x_head_stride, weights, out, out_head_stride);
  if (x.num_rows == 0) return;
  int64_t operand_bytes = 0;
  for (const auto& weight : weights) operand_bytes += OperandBytes(x.num_rows, Own(*weight));
  BeginJobs(weights.size(), operand_bytes);
  for (size_t h = 0; h < weights.size(); ++h) {
    const DeviceWeight own = Own(*weights[h]);
    const ConstMatrix slice = x.Columns(h * x_head_stride, weights[h]->num_inputs());
    matmul_jobs_.push_back({0, own, AddOperand(slice, own), nullptr,
                            out.Columns(h * out_head_stride, weights[h]->num_outputs())});
  }
  MakeOperands();
  Multiply();
}

void CudaKernels::FeedForward(absl::Span<const FeedForwardArgs> all) {
  int64_t operand_bytes = 0, inner_bytes = 0;
  for (const FeedForwardArgs& args : all) {
    CheckFeedForward(args.x, *args.gate, *args.up, *args.down, args.out);
    operand_bytes += OperandBytes(args.x.num_rows, Own(*args.gate)) +
                     OperandBytes(args.x.num_rows, Own(*args.up));
    inner_bytes += OperandBytes(args.x.num_rows, Own(*args.down));
  }
  BeginJobs(all.size(), operand_bytes);
  std::byte* inner = inner_.Get(inner_bytes);
  int64_t num_blocks = 0;
  for (const FeedForwardArgs& args : all) {
    const int64_t num_rows = args.x.num_rows;
    if (num_rows == 0) continue;
    const DeviceWeight gate = Own(*args.gate), up = Own(*args.up), down = Own(*args.down);
    const std::byte* const of_gate = AddOperand(args.x, gate);
    // Gate and up see the same row, unless one of them is exact.
    const std::byte* const of_up = gate.rounds == up.rounds ? of_gate : AddOperand(args.x, up);
    gate_up_jobs_.push_back({num_blocks, gate, up, of_gate, of_up, num_rows, inner, down.rounds,
                             down.num_steps * kStepInputs});
    matmul_jobs_.push_back({0, down, inner, nullptr, args.out});
    num_blocks += NumTiles(gate, num_rows);
    inner += OperandBytes(num_rows, down);
  }
  MakeOperands();
  Launch("GateUp", GateUpTile, {num_blocks, kBlockThreads},
         staging_.Put(absl::MakeConstSpan(gate_up_jobs_)), static_cast<int>(gate_up_jobs_.size()));
  Multiply();
}

}  // namespace orrery
