// A product of fp8 codes by wgmma: 64 outputs for each of two warpgroups and up to 256 rows of one block of threads.
// For matmul_wgmma.cu.cc, which has the order of the sums.
//
// Weights are on the side of the 64 (operand A), rows on the other, always 64 at a time: the same instruction,
// m64n64k32, for one row and for 256. What a slot holds behind the last row is multiplied too, and thrown away: no
// column of a product touches another. A warpgroup has four pieces of 64 x 64 sums, either four times 64 rows of one
// weight or two times 64 rows of two, gate and up, whose outputs then meet in one thread.
//
//   threads 256..   one thread copies 128 inputs at a time into one of four slots, as bulk copies that arrive at the
//                   slot's barrier; everything lies in memory as it is multiplied
//   threads 0..255  two warpgroups: wait for a slot, multiply piece by piece, add what a piece gave to its totals
//                   while the tensor cores have the next, give the slot back
//
// Of a slot: weights 16 or 32 KiB, rows 32 or 16 KiB, their scales. Four are 196 KiB, of which 64 or 128 KiB of weights
// are on their way when rows are few: a GPU reads at full speed when some 30 KB are (lane_steps.h).
#ifndef ORRERY_KERNELS_CUDA_WGMMA_PRODUCT_H_
#define ORRERY_KERNELS_CUDA_WGMMA_PRODUCT_H_

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/matmul_jobs.h"
#include "kernels/cuda/ptx_sm90.h"
#include "kernels/cuda/tiled_weight.h"
#include "kernels/cuda/weight_codes.h"

namespace orrery {

inline constexpr int kWarpgroupThreads = 4 * kWarpThreads;
inline constexpr int kMultipliers = 2;  // warpgroups; one more copies
inline constexpr int kMultiplierThreads = kMultipliers * kWarpgroupThreads;
inline constexpr int kProductThreads = kMultiplierThreads + kWarpgroupThreads;
inline constexpr int kPieceRows = 64;
inline constexpr int kNumPieces = 4;

// kNumWeights: 1, or 2 that have the same shape.
template <int kNumWeights>
class WgmmaProduct {
 public:
  static constexpr int kRowPieces = kNumPieces / kNumWeights;
  static constexpr int kMaxRows = kRowPieces * kPieceRows;
  static constexpr int kOutputs = kMultipliers * SwizzledLayout::kTileOutputs;

  // What a block of threads computes: kOutputs outputs of each weight, of some rows.
  struct Part {
    const DeviceWeight* weights[kNumWeights];
    Operand operand;
    int first_output;
    int64_t first_row;
    int num_rows;
  };

  // Sums of a thread as wgmma has them: of piece p of the rows and weight w.
  using Totals = float[kRowPieces][kNumWeights][32];

  static constexpr size_t SharedBytes() {
    return kNumSlots * kSlotBytes + 2 * kNumSlots * sizeof(ptx::Barrier);
  }

  // memory: SharedBytes() on a border of 1,024.
  __device__ WgmmaProduct(const Part& part, std::byte* memory)
      : part_(part),
        slots_(memory),
        full_(reinterpret_cast<ptx::Barrier*>(memory + kNumSlots * kSlotBytes)),
        empty_(full_ + kNumSlots) {}

  // By all threads of the block, before anything else.
  __device__ void Begin() const {
    if (threadIdx.x == 0) {
      for (int slot = 0; slot < kNumSlots; ++slot) {
        ptx::MakeBarrier(full_[slot], 1);
        ptx::MakeBarrier(empty_[slot], kMultiplierThreads / kWarpThreads);
      }
    }
    ptx::FenceAsync();
    __syncthreads();
  }

  // By one thread, which has everything in registers: looking it up for each copy would hold up the copies.
  __device__ void Copy() const {
    const int num_blocks = part_.weights[0]->num_blocks;
    const std::byte* tiles[kNumTiles];
    ORRERY_UNROLL
    for (int i = 0; i < kNumTiles; ++i) {
      const int64_t tile = part_.first_output / SwizzledLayout::kTileOutputs + i / kNumWeights;
      tiles[i] = part_.weights[i % kNumWeights]->codes + tile * num_blocks * kTileBytes;
    }
    const std::byte* rows = part_.operand.values + part_.first_row * kSlabBytes;
    const float* scales = part_.operand.scales + part_.first_row;
    const int64_t padded_rows = part_.operand.padded_rows;
    const int num_rows = (part_.num_rows + kOperandRows - 1) / kOperandRows * kOperandRows;
    const int row_bytes = num_rows * kSlabBytes;
    const int scale_bytes = num_rows * static_cast<int>(sizeof(float));
    Turn turn;
    for (int block = 0; block < num_blocks; ++block, turn.Next()) {
      std::byte* const slot = Slot(turn);
      ptx::Barrier& full = full_[turn.slot];
      ptx::Await(empty_[turn.slot], turn.parity ^ 1);
      ptx::ArriveExpecting(full, kNumTiles * kTileBytes + row_bytes + scale_bytes);
      ORRERY_UNROLL
      for (int i = 0; i < kNumTiles; ++i) {
        ptx::CopyBulk(slot + i * kTileBytes, tiles[i], kTileBytes, full);
        tiles[i] += kTileBytes;
      }
      ptx::CopyBulk(slot + kRowsOffset, rows, row_bytes, full);
      ptx::CopyBulk(slot + kScalesOffset, reinterpret_cast<const std::byte*>(scales), scale_bytes,
                    full);
      rows += padded_rows * kSlabBytes;
      scales += padded_rows;
    }
  }

  // By the two warpgroups.
  __device__ void Multiply(Totals& totals) const {
    ORRERY_UNROLL
    for (int piece = 0; piece < kNumPieces; ++piece) {
      ORRERY_UNROLL
      for (int i = 0; i < 32; ++i) totals[piece / kNumWeights][piece % kNumWeights][i] = 0.0f;
    }
    if (part_.num_rows <= kPieceRows) {
      MultiplyPieces<kNumWeights>(totals);
    } else if (part_.num_rows <= 2 * kPieceRows) {
      MultiplyPieces<2 * kNumWeights>(totals);
    } else {
      MultiplyPieces<kNumPieces>(totals);
    }
  }

  // Where sum i of a thread belongs, counted from the part's first output and from the piece's first row.
  __device__ static int OutputOf(int i) {
    return WarpOfThread() * 16 + i % 4 / 2 * 8 + LaneOfThread() / 4;
  }
  __device__ static int RowOf(int i) { return i / 4 * 8 + 2 * (LaneOfThread() % 4) + i % 2; }

 private:
  static constexpr int kNumSlots = 4;
  static constexpr int kNumTiles = kMultipliers * kNumWeights;
  static constexpr int kTileBytes = SwizzledLayout::kTileBytes;
  // Of a slot: tiles, by warpgroup and weight; rows; scales.
  static constexpr int kRowsOffset = kNumTiles * kTileBytes;
  static constexpr int kScalesOffset = kRowsOffset + kMaxRows * kSlabBytes;
  static constexpr int kSlotBytes =
      (kScalesOffset + kMaxRows * static_cast<int>(sizeof(float)) + kSwizzleBytes - 1) /
      kSwizzleBytes * kSwizzleBytes;

  // A slot and its barriers' parity, round after round.
  struct Turn {
    int slot = 0;
    uint32_t parity = 0;
    __device__ void Next() {
      if (++slot < kNumSlots) return;
      slot = 0;
      parity ^= 1;
    }
  };

  __device__ std::byte* Slot(const Turn& turn) const { return slots_ + turn.slot * kSlotBytes; }

  // Of the two outputs that a thread has of a weight: one for each block of inputs.
  __device__ void FindScales(const float* (&of_outputs)[kNumWeights][2]) const {
    for (int weight = 0; weight < kNumWeights; ++weight) {
      for (int half = 0; half < 2; ++half) {
        of_outputs[weight][half] =
            ScalesOf(*part_.weights[weight], part_.first_output + OutputOf(2 * half));
      }
    }
  }

  // The first so many pieces: a constant, because the compiler serialises products whose sums it cannot tell from
  // those that it reads.
  template <int kUsedPieces>
  __device__ void MultiplyPieces(Totals& totals) const {
    const float* of_outputs[kNumWeights][2];
    FindScales(of_outputs);
    const int num_blocks = part_.weights[0]->num_blocks;
    Turn turn;
    for (int block = 0; block < num_blocks; ++block, turn.Next()) {
      float scales[kNumWeights][2];
      ORRERY_UNROLL
      for (int i = 0; i < 2 * kNumWeights; ++i)
        scales[i / 2][i % 2] = of_outputs[i / 2][i % 2][block];
      ptx::Await(full_[turn.slot], turn.parity);
      float sums[2][32];
      MultiplyPiece(Slot(turn), 0, sums[0]);
      ORRERY_UNROLL
      for (int piece = 0; piece < kUsedPieces; ++piece) {
        if (piece + 1 < kUsedPieces) {
          MultiplyPiece(Slot(turn), piece + 1, sums[(piece + 1) % 2]);
          ptx::AwaitProducts<1>();
        } else {
          ptx::AwaitProducts<0>();
        }
        ptx::PinSums(sums[piece % 2]);
        const int rows = piece / kNumWeights, weight = piece % kNumWeights;
        AddScaled(Slot(turn), rows, scales[weight], sums[piece % 2], totals[rows][weight]);
      }
      __syncwarp();
      if (LaneOfThread() == 0) ptx::Arrive(empty_[turn.slot]);
    }
  }

  __device__ void MultiplyPiece(std::byte* slot, int piece, float (&sums)[32]) const {
    const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroupThreads;
    const int tile = warpgroup * kNumWeights + piece % kNumWeights;
    const uint64_t weights = ptx::AlongRows(slot + tile * kTileBytes);
    const uint64_t rows =
        ptx::AlongRows(slot + kRowsOffset + piece / kNumWeights * kPieceRows * kSlabBytes);
    ptx::PinSums(sums);
    ptx::FenceProducts();
    ORRERY_UNROLL
    for (int k = 0; k < kSlabBytes; k += 32) {
      ptx::MultiplyFp8(sums, ptx::Advanced(weights, k), ptx::Advanced(rows, k), k > 0);
    }
    ptx::CommitProducts();
  }

  __device__ void AddScaled(const std::byte* slot, int rows, const float (&of_weight)[2],
                            const float (&sums)[32], float (&totals)[32]) const {
    const auto* const of_rows =
        reinterpret_cast<const float*>(slot + kScalesOffset) + rows * kPieceRows;
    ORRERY_UNROLL
    for (int i = 0; i < 32; ++i) {
      totals[i] = fmaf(of_weight[i % 4 / 2] * of_rows[RowOf(i)], sums[i], totals[i]);
    }
  }

  const Part& part_;
  std::byte* slots_;
  ptx::Barrier* full_;
  ptx::Barrier* empty_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_WGMMA_PRODUCT_H_
