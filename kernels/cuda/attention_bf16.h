// Attention over a bf16 cache, with tensor cores: eight warps to up to 64 heads of a row. For attention.cu.cc,
// which has the order of the sums.
//
// Keys and values come through shared memory, 32 tokens at a time, into slots that take turns: while
// some are worked on, the next are on their way. Values that lie within the keys, as in MLA, are not read
// twice. For each block of the cache:
//
//   Score       a warp has up to 32 heads, 16 or 32 tokens, and half of the dims   -> scores[half]
//   Soften      a warp has every eighth head                                       -> p, over scores[0]
//   AddValues   a warp has up to 32 heads and some of the values, in registers; after each
//               32 tokens their slot is filled again
//
// Shared memory holds rows of 16-byte pieces. Piece i of row r lies at i ^ r % 8, so that the eight rows that
// ldmatrix reads at a time lie on different banks.
//
// Why these sizes, for MLA (keys of 576, values the first 512 of them):
//
//   heads  slots   q         slots       scores    sum          for
//   64     3       73,728    110,592     35,584    219,904 B    sm_90: 232,448 B
//   32     3       36,864    110,592     17,792    165,248 B    sm_80: 166,912 B
//   16     2       18,432     73,728      8,896    101,056 B    sm_86: 101,376 B
//
// Values of a warp take 128, 64 or 32 registers of each lane. Shared memory is read 4096 (1/32 + 1/32) = 256
// bytes for each mma of the scores and 160 for each of the values (64 heads), 2 and 1.25 clocks of a
// multiprocessor; the mma itself takes 2 on sm_80.
#ifndef ORRERY_KERNELS_CUDA_ATTENTION_BF16_H_
#define ORRERY_KERNELS_CUDA_ATTENTION_BF16_H_

#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/job_array.h"
#include "kernels/cuda/ptx.h"

namespace orrery {

inline constexpr int kPieceDims = 8;  // of bf16, in 16 bytes
inline constexpr int kPieceBytes = 16;
inline constexpr int kMmaDims = 16;  // two pieces

// Eight bf16 on their way to shared memory, or the first num of them and zeros; in one piece where that
// is possible.
__device__ inline void CopyPiece(std::byte* to, const uint16_t* from, int num) {
  if (num >= kPieceDims && reinterpret_cast<uintptr_t>(from) % kPieceBytes == 0) {
    ptx::CopyLater<kPieceBytes>(to, reinterpret_cast<const std::byte*>(from));
    return;
  }
  FourWords pairs = {};
  for (int i = 0; i < kPieceDims; ++i) {
    if (i < num) pairs.word[i / 2] |= static_cast<uint32_t>(from[i]) << (i % 2 * 16);
  }
  *reinterpret_cast<FourWords*>(to) = pairs;
}

// Pieces of the rows in shared memory: q's, and keys with values behind or within them.
struct PieceLayout {
  int num_keys;     // pieces of a key, in whole mmas
  int first_value;  // the piece where values begin
  int num_pieces;   // of a row of the cache
  int q_pieces;
  int row_pieces;  // with padding: eight rows must not share banks

  __host__ __device__ PieceLayout(const AttendJob& job, int first_value_of_tile) {
    num_keys = NumUnits(job.key_dim, kMmaDims) * 2;
    const int values_left = job.value_dim - first_value_of_tile;
    const int num_values =
        NumUnits(values_left < kTileValues ? values_left : kTileValues, kMmaDims) * 2;
    const int behind = job.value_offset - job.key_offset;
    const bool is_within_keys =
        behind >= 0 && behind + job.value_dim <= job.key_dim && behind % kMmaDims == 0;
    first_value = is_within_keys ? (behind + first_value_of_tile) / kPieceDims : num_keys;
    num_pieces = is_within_keys ? num_keys : num_keys + num_values;
    q_pieces = RoundUpTo(8, num_keys);
    row_pieces = RoundUpTo(8, num_pieces);
  }
};

template <int kTileHeads, int kNumSlots>
struct AttendBf16 {
  static constexpr int kHeads = kTileHeads;
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarpThreads;
  static constexpr int kResident = kHeads > 16 ? 1 : 2;  // of registers
  static constexpr int kSlotTokens = kKvBlockTokens / 2;
  // Of one warp, in mmas of 16 heads.
  static constexpr int kMmas = kHeads >= 32 ? 2 : 1;
  static constexpr int kHeadWarps = kHeads / (16 * kMmas);
  static constexpr int kWarpTokens = kKvBlockTokens * 2 * kHeadWarps / kWarps;
  static constexpr int kValueWarps = kWarps / kHeadWarps;
  static constexpr int kGroups = kTileValues / kMmaDims / kValueWarps;
  static_assert(kSlotTokens % kWarpTokens == 0);

  static constexpr int kScoreStride = kKvBlockTokens + 4;  // an odd number of pieces
  static constexpr int kScoreFloats = 2 * kHeads * kScoreStride;
  static size_t SharedBytes(const AttendJob& job) {
    const PieceLayout pieces(job, 0);
    return kPieceBytes * (size_t{kHeads} * pieces.q_pieces +
                          size_t{kNumSlots * kSlotTokens} * pieces.row_pieces) +
           sizeof(float) * (kScoreFloats + 3 * kHeads);
  }

  __device__ explicit AttendBf16(const AttendTile& tile)
      : tile(tile), pieces(tile.job, tile.first_value) {
    q = ptx::DynamicSharedMemory();
    slots = q + kHeads * pieces.q_pieces * kPieceBytes;
    scores =
        reinterpret_cast<float*>(slots + kNumSlots * kSlotTokens * pieces.row_pieces * kPieceBytes);
    float* const max = scores + kScoreFloats;
    sums = {max, max + kHeads, max + 2 * kHeads};
  }

  __device__ void Run() const {
    Begin(sums, kHeads);
    LoadQueries();
    for (int half = 0; half < kNumSlots; ++half) LoadHalf(half);
    float context[kMmas][kGroups][2][4] = {};
    const int num_blocks = (tile.EndPosition() - tile.FirstPosition()) / kKvBlockTokens;
    for (int block = 0; block < num_blocks; ++block) {
      ptx::WaitForCopies<kNumSlots - 2>();
      __syncthreads();
      Score(block);
      __syncthreads();
      SoftenBlock(block);
      __syncthreads();
      Shrink(context);
      for (int half = 2 * block; half < 2 * block + 2; ++half) {
        AddValues(half, context);
        __syncthreads();
        LoadHalf(half + kNumSlots);
      }
    }
    StoreAll(context);
  }

 private:
  // Where a warp stands among those that share the heads, and the tokens or values.
  __device__ static int FirstHead() { return WarpOfThread() % kHeadWarps * 16 * kMmas; }
  __device__ static int OtherWarp() { return WarpOfThread() / kHeadWarps; }

  __device__ std::byte* QueryRow(int h) const { return q + h * pieces.q_pieces * kPieceBytes; }
  // Halves of blocks, and their tokens, are counted from the first block of the tile.
  __device__ std::byte* SlotRow(int half, int token) const {
    return slots + (half % kNumSlots * kSlotTokens + token) * pieces.row_pieces * kPieceBytes;
  }
  __device__ static std::byte* Piece(std::byte* row, int row_index, int piece) {
    return row + (piece ^ row_index % 8) * kPieceBytes;
  }
  // The weights of head h: bf16, where its scores were.
  __device__ std::byte* WeightRow(int h) const {
    return reinterpret_cast<std::byte*>(scores + h * kScoreStride);
  }

  // Heads that are not there count as zeros.
  __device__ void LoadQueries() const {
    const AttendJob& job = tile.job;
    for (int h = WarpOfThread(); h < kHeads; h += kWarps) {
      const float* const from =
          job.q.row(tile.row) + static_cast<int64_t>(tile.first_head + h) * job.key_dim;
      for (int d = 2 * LaneOfThread(); d < pieces.num_keys * kPieceDims; d += 2 * kWarpThreads) {
        const int num = h < tile.num_heads ? job.key_dim - d : 0;
        const uint32_t pair = PairOfBf16(FlushedBf16(num > 0 ? from[d] : 0.0f),
                                         FlushedBf16(num > 1 ? from[d + 1] : 0.0f));
        std::byte* const piece = Piece(QueryRow(h), h, d / kPieceDims);
        reinterpret_cast<uint32_t*>(piece)[d % kPieceDims / 2] = pair;
      }
    }
  }

  // A group of copies, empty behind the last block. What is not seen is not read, and counts as zeros.
  __device__ void LoadHalf(int half) const {
    const AttendJob& job = tile.job;
    const int first = tile.FirstPosition() + half * kSlotTokens;
    if (first < tile.EndPosition()) {
      for (int token = WarpOfThread(); token < kSlotTokens; token += kWarps) {
        const bool sees = tile.Sees(first + token);
        const uint16_t* const row = sees ? tile.CacheRow<uint16_t>(first + token) : nullptr;
        for (int piece = LaneOfThread(); piece < pieces.num_pieces; piece += kWarpThreads) {
          const bool is_key = piece < pieces.num_keys;
          const int dim = (is_key ? piece : piece - pieces.num_keys) * kPieceDims;
          const int offset = is_key ? job.key_offset : job.value_offset + tile.first_value;
          const int num = (is_key ? job.key_dim : tile.num_values) - dim;
          CopyPiece(Piece(SlotRow(half, token), token, piece), row + offset + dim, sees ? num : 0);
        }
      }
    }
    ptx::CommitCopies();
  }

  // Each half of the dims is summed by itself.
  __device__ void Score(int block) const {
    const int lane = LaneOfThread(), g = lane / 4, t = lane % 4;
    const int first_head = FirstHead(), dim_half = OtherWarp() % 2;
    const int first_token = OtherWarp() / 2 * kWarpTokens;
    std::byte* const q_row = QueryRow(first_head + lane % 16);
    std::byte* const key_row = SlotRow(2 * block + first_token / kSlotTokens,
                                       first_token % kSlotTokens + lane / 16 * 8 + lane % 8);
    const int num_mmas = pieces.num_keys / 2, middle = (num_mmas + 1) / 2;
    float sum[kMmas][kWarpTokens / 8][4] = {};
    for (int k = dim_half == 0 ? 0 : middle; k < (dim_half == 0 ? middle : num_mmas); ++k) {
      uint32_t a[kMmas][4];
      for (int m = 0; m < kMmas; ++m) {
        std::byte* const row = q_row + m * 16 * pieces.q_pieces * kPieceBytes;
        ptx::LoadMatrices(a[m], Piece(row, lane, 2 * k + lane / 16));
      }
      for (int n = 0; n < kWarpTokens / 8; n += 2) {
        uint32_t b[4];
        std::byte* const row = key_row + n * 8 * pieces.row_pieces * kPieceBytes;
        ptx::LoadMatrices(b, Piece(row, lane, 2 * k + lane / 8 % 2));
        for (int m = 0; m < kMmas; ++m) {
          ptx::MmaBf16(sum[m][n], a[m], {b[0], b[1]});
          ptx::MmaBf16(sum[m][n + 1], a[m], {b[2], b[3]});
        }
      }
    }
    for (int m = 0; m < kMmas; ++m) {
      for (int n = 0; n < kWarpTokens / 8; ++n) {
        for (int i = 0; i < 4; ++i) {
          const int h = dim_half * kHeads + first_head + m * 16 + i / 2 * 8 + g;
          scores[h * kScoreStride + first_token + n * 8 + 2 * t + i % 2] = sum[m][n][i];
        }
      }
    }
  }

  __device__ float ScoreOf(int h, int block, int token) const {
    if (!tile.Sees(tile.FirstPosition() + block * kKvBlockTokens + token)) return -kInfinity;
    const float* const first = scores + h * kScoreStride + token;
    return tile.job.scale * (first[0] + first[kHeads * kScoreStride]);
  }

  __device__ void SoftenBlock(int block) const {
    const int low = LaneOfThread(), high = low + kWarpThreads;
    for (int h = WarpOfThread(); h < kHeads; h += kWarps) {
      const LaneTokens p = Soften(sums, h, {ScoreOf(h, block, low), ScoreOf(h, block, high)});
      __syncwarp();  // all have read what p is about to replace
      auto* const weights = reinterpret_cast<uint16_t*>(WeightRow(h));
      weights[low] = FlushedBf16(p.low);
      weights[high] = FlushedBf16(p.high);
    }
  }

  __device__ void Shrink(float (&context)[kMmas][kGroups][2][4]) const {
    for (int m = 0; m < kMmas; ++m) {
      for (int i = 0; i < 4; ++i) {
        const float shrink = sums.shrink[FirstHead() + m * 16 + i / 2 * 8 + LaneOfThread() / 4];
        for (int group = 0; group < kGroups; ++group) {
          for (int n = 0; n < 2; ++n) context[m][group][n][i] *= shrink;
        }
      }
    }
  }

  // Groups of 16 values take turns among warps.
  __device__ int NumGroups() const {
    return (NumUnits(tile.num_values, kMmaDims) - OtherWarp() + kValueWarps - 1) / kValueWarps;
  }

  __device__ void AddValues(int half, float (&context)[kMmas][kGroups][2][4]) const {
    const int lane = LaneOfThread(), num_groups = NumGroups();
    const int first_piece = pieces.first_value + 2 * OtherWarp() + lane / 16;
    for (int token = 0; token < kSlotTokens; token += 16) {
      uint32_t p[kMmas][4];
      for (int m = 0; m < kMmas; ++m) {
        ptx::LoadMatrices(
            p[m], WeightRow(FirstHead() + m * 16 + lane % 16) +
                      ((half % 2 * kSlotTokens + token) / kPieceDims + lane / 16) * kPieceBytes);
      }
      std::byte* const row = SlotRow(half, token + lane % 16);
      for (int group = 0; group < kGroups; ++group) {
        if (group >= num_groups) break;
        uint32_t b[4];
        ptx::LoadTransposed(b, Piece(row, lane, first_piece + 2 * group * kValueWarps));
        for (int m = 0; m < kMmas; ++m) {
          ptx::MmaBf16(context[m][group][0], p[m], {b[0], b[1]});
          ptx::MmaBf16(context[m][group][1], p[m], {b[2], b[3]});
        }
      }
    }
  }

  __device__ void StoreAll(const float (&context)[kMmas][kGroups][2][4]) const {
    const int g = LaneOfThread() / 4, t = LaneOfThread() % 4;
    ORRERY_UNROLL
    for (int m = 0; m < kMmas; ++m) {
      ORRERY_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        ORRERY_UNROLL
        for (int n = 0; n < 2; ++n) {
          ORRERY_UNROLL
          for (int i = 0; i < 4; ++i) {
            const int h = FirstHead() + m * 16 + i / 2 * 8 + g;
            const int d = (OtherWarp() + group * kValueWarps) * kMmaDims + n * 8 + 2 * t + i % 2;
            if (h < tile.num_heads && d < tile.num_values) {
              Store(tile, sums, h, d, context[m][group][n][i]);
            }
          }
        }
      }
    }
  }

  const AttendTile& tile;
  PieceLayout pieces;
  std::byte* q;      // [kHeads][q_pieces]
  std::byte* slots;  // [kNumSlots * 32][row_pieces]
  float* scores;     // [2][kHeads][kScoreStride]
  RunningSums sums;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_ATTENTION_BF16_H_
