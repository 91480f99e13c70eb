// Absorbed MLA of DeepSeek-V3 over a bf16 cache by wgmma: keys of 576, of which the first 512 are the values, and up to
// 64 heads of a row. For attention.cu.cc, which has the order of the sums.
//
//   warpgroup 0, 1   take turns at the blocks of the cache: 0 scores block 0 while 1 scores block 1, ...
//
//                      Score      [64 heads, 64 tokens] = q keys^T, m64n64k16
//                      Soften     weights, once the block before has its maximum -> shared memory
//
//                    and each adds half of the values of every block, in order:
//
//                      AddValues  [64 heads, 256 dims] = shrink * it + weights values, m64n256k16, in registers
//
//   warpgroup 2      copies blocks of the cache into two buffers
//
// So the tensor cores score one block while the weights of the other are computed. A row of the cache is 9 slabs of 64
// dims (swizzle.h), keys read along their rows, values across them: what was copied once is read twice. A buffer is
// filled in three parts, each as soon as those are done who read it: slabs 0 to 3, the values of warpgroup 0; 4 to 7,
// those of 1; slab 8, which has no values and holds the block's weights once it is softened.
//
//   q 73,728 + buffers 2 * 73,728 + sums and barriers 1,104 = 222,288 of the 232,448 bytes of shared memory
//   registers of a thread: 128 for values, 32 for scores
#ifndef ORRERY_KERNELS_CUDA_ATTENTION_WGMMA_H_
#define ORRERY_KERNELS_CUDA_ATTENTION_WGMMA_H_

#include "kernels/cuda/attention_bf16.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/ptx_sm90.h"

namespace orrery {

class AttendWgmma {
 public:
  static constexpr int kHeads = 64;
  static constexpr int kThreads = 3 * 4 * kWarpThreads;
  static constexpr int kResident = 1;
  static constexpr int kKeyDim = 576;
  static constexpr int kValueDim = 512;

  // Whether it is for such a job. A matter of shapes, because it is one of bits.
  static bool Takes(const AttendJob& job) {
    return job.key_dim == kKeyDim && job.value_dim == kValueDim &&
           job.value_offset == job.key_offset && job.key_offset % kPieceDims == 0 &&
           job.row_width % kPieceDims == 0;
  }
  static size_t SharedBytes(const AttendJob&) { return sizeof(Memory); }

  __device__ explicit AttendWgmma(const AttendTile& tile)
      : tile_(tile),
        memory_(*reinterpret_cast<Memory*>(ptx::DynamicSharedMemory())),
        group_(Group()) {}

  __device__ void Run() const {
#if ORRERY_SM90A
    if (threadIdx.x == 0) MakeBarriers();
    Begin({memory_.max, memory_.sum, nullptr}, kHeads);
    ptx::FenceAsync();
    __syncthreads();
    if (threadIdx.x >= kAttenders) {
      ptx::LeaveRegisters<40>();
      CopyBlocks();
    } else {
      ptx::TakeRegisters<232>();
      LoadQueries();
      AttendBlocks();
    }
#endif
  }

 private:
  static constexpr int kGroupThreads = 4 * kWarpThreads;
  static constexpr int kAttenders = 2 * kGroupThreads;
  static constexpr int kSlabDims = kSlabBytes / 2;
  static constexpr int kNumSlabs = kKeyDim / kSlabDims;
  static constexpr int kHalfSlabs = kValueDim / kSlabDims / 2;
  static constexpr int kWeightsSlab = kNumSlabs - 1;
  static_assert(kKvBlockTokens == kSlabDims && kHeads == kKvBlockTokens);

  using Slab = std::byte[kKvBlockTokens * kSlabBytes];
  static constexpr int kNumParts = 3;
  struct Buffer {
    Slab slabs[kNumSlabs];
  };
  struct Memory {
    Slab q[kNumSlabs];
    Buffer buffers[2];
    float max[kHeads];
    float sum[kHeads];
    float shrink[2][kHeads];
    ptx::Barrier full[2];
    ptx::Barrier empty[2][kNumParts];
    ptx::Barrier softened[2];
  };

  // Asked of a lane, so that the compiler sees that warps do not part over it: it serialises products where they may.
  __device__ static int Group() {
    return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kGroupThreads, 0);
  }
  // Of the two heads that a thread has scores and values of.
  __device__ static int HeadOf(int half) {
    return WarpOfThread() % 4 * 16 + half * 8 + LaneOfThread() / 4;
  }
  // Of score i; and, counted from the first of the warpgroup, the dim of value i.
  __device__ static int ColumnOf(int i) { return i / 4 * 8 + LaneOfThread() % 4 * 2 + i % 2; }
  __device__ int NumBlocks() const {
    return (tile_.EndPosition() - tile_.FirstPosition()) / kKvBlockTokens;
  }
  // Blocks take turns at two buffers.
  __device__ static uint32_t ParityOf(int block) { return block / 2 % 2; }

  __device__ void MakeBarriers() const {
    constexpr int kWarps = kAttenders / kWarpThreads;
    for (int buffer = 0; buffer < 2; ++buffer) {
      for (int part = 0; part < kNumParts; ++part) {
        ptx::MakeBarrier(memory_.empty[buffer][part], part < 2 ? kWarps / 2 : kWarps);
      }
      ptx::MakeBarrier(memory_.full[buffer], kGroupThreads);
      ptx::MakeBarrier(memory_.softened[buffer], kGroupThreads);
    }
  }

  // What is not seen is not read, and counts as zeros. A buffer is full once all of it has arrived, which is found out
  // when the first part of the next has been asked for: that only waits for values to be added for which the buffer is not
  // needed.
  __device__ void CopyBlocks() const {
    for (int block = 0; block < NumBlocks(); ++block) {
      const int buffer = block % 2;
      const CacheBlock from = BlockAt(block);
      ORRERY_UNROLL
      for (int part = 0; part < kNumParts; ++part) {
        ptx::Await(memory_.empty[buffer][part], ParityOf(block) ^ 1);
        if (part < 2) {
          CopySlabs<kHalfSlabs>(from, part * kHalfSlabs, memory_.buffers[buffer]);
        } else {
          CopySlabs<1>(from, kWeightsSlab, memory_.buffers[buffer]);
        }
        ptx::CommitCopies();
        if (part == 0 && block > 0) {
          ptx::WaitForCopies<1>();
          SayWritten(memory_.full[buffer ^ 1]);
        }
      }
    }
    ptx::WaitForCopies<0>();
    SayWritten(memory_.full[(NumBlocks() - 1) % 2]);
  }
  // For products to read.
  __device__ static void SayWritten(ptx::Barrier& barrier) {
    ptx::FenceAsync();
    ptx::Arrive(barrier);
  }

  // What a block of the cache looks like to those who copy it: its rows, and which of them are seen. In registers:
  // looking any of it up for each piece would take longer than the products.
  struct CacheBlock {
    const uint16_t* rows;
    int row_width;
    int begin;
    int end;
  };
  __device__ CacheBlock BlockAt(int block) const {
    const int first_token = tile_.FirstPosition() + block * kKvBlockTokens;
    return {tile_.CacheRow<uint16_t>(first_token) + tile_.job.key_offset, tile_.job.row_width,
            tile_.begin - first_token, tile_.end - first_token};
  }

  template <int kSlabs>
  __device__ static void CopySlabs(const CacheBlock& from, int first_slab, Buffer& to) {
    constexpr int kSlabPieces = kSlabDims / kPieceDims, kRowPieces = kSlabs * kSlabPieces;
    constexpr int kRoundTokens = kGroupThreads / kRowPieces;
    const int thread = static_cast<int>(threadIdx.x) - kAttenders;
    const int piece = thread % kRowPieces, first_token = thread / kRowPieces;
    std::byte* const slab = to.slabs[first_slab + piece / kSlabPieces];
    const uint16_t* const dims = from.rows + first_slab * kSlabDims + piece * kPieceDims;
    ORRERY_UNROLL_4
    for (int token = first_token; token < first_token + kKvBlockTokens; token += kRoundTokens) {
      std::byte* const at = slab + SwizzledOffset(token, piece % kSlabPieces * kPieceBytes);
      if (from.begin <= token && token < from.end) {
        ptx::CopyLater<kPieceBytes>(
            at, reinterpret_cast<const std::byte*>(dims + int64_t{token} * from.row_width));
      } else {
        *reinterpret_cast<FourWords*>(at) = {};
      }
    }
  }

  // Heads that are not there count as zeros.
  __device__ void LoadQueries() const {
    for (int h = WarpOfThread(); h < kHeads; h += kAttenders / kWarpThreads) {
      const float* const from =
          tile_.job.q.row(tile_.row) + static_cast<int64_t>(tile_.first_head + h) * kKeyDim;
      for (int d = 2 * LaneOfThread(); d < kKeyDim; d += 2 * kWarpThreads) {
        const bool is_there = h < tile_.num_heads;
        *reinterpret_cast<uint32_t*>(memory_.q[d / kSlabDims] +
                                     SwizzledOffset(h, d % kSlabDims * 2)) =
            PairOfBf16(FlushedBf16(is_there ? from[d] : 0.0f),
                       FlushedBf16(is_there ? from[d + 1] : 0.0f));
      }
    }
    ptx::FenceAsync();
    ptx::MeetAt(1, kAttenders);
  }

  __device__ void AttendBlocks() const {
    float context[128] = {};
    const int num_blocks = NumBlocks();
    for (int first = 0; first < num_blocks; first += 2) {
      const int mine = first + group_;
      if (mine < num_blocks) {
        float scores[32];
        Score(mine, scores);
        Soften(mine, scores);
      }
      AddValues(first, context);
      if (first + 1 < num_blocks) AddValues(first + 1, context);
    }
    ORRERY_UNROLL
    for (int i = 0; i < 128; ++i) {
      const int h = HeadOf(i % 4 / 2);
      if (h < tile_.num_heads) {
        Store(tile_, {memory_.max, memory_.sum, nullptr}, h,
              group_ * kHalfSlabs * kSlabDims + ColumnOf(i), context[i]);
      }
    }
  }

  __device__ void Score(int block, float (&scores)[32]) const {
    const Buffer& buffer = memory_.buffers[block % 2];
    // Not part by part: a loop between two products of one chain makes the compiler wait for the first.
    ptx::Await(memory_.full[block % 2], ParityOf(block));
    ptx::PinSums(scores);
    ptx::FenceProducts();
    ORRERY_UNROLL
    for (int slab = 0; slab < kNumSlabs; ++slab) {
      const uint64_t q = ptx::AlongRows(memory_.q[slab]);
      const uint64_t keys = ptx::AlongRows(buffer.slabs[slab]);
      ORRERY_UNROLL
      for (int k = 0; k < kSlabBytes; k += 32) {
        ptx::MultiplyBf16(scores, ptx::Advanced(q, k), ptx::Advanced(keys, k), slab + k > 0);
      }
    }
    ptx::CommitProducts();
    ptx::AwaitProducts<0>();
    ptx::PinSums(scores);
    // A warp knows of its own rows only; weights will lie where others may still be reading keys.
    ptx::MeetAt(2 + group_, kGroupThreads);
  }

  // Four lanes have a head's tokens.
  __device__ void Soften(int block, float (&scores)[32]) const {
    if (block > 0) ptx::Await(memory_.softened[(block - 1) % 2], ParityOf(block - 1));
    const int first_token = tile_.FirstPosition() + block * kKvBlockTokens;
    std::byte* const weights = memory_.buffers[block % 2].slabs[kWeightsSlab];
    ORRERY_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int h = HeadOf(half);
      const float before = memory_.max[h];
      float max = before;
      ORRERY_UNROLL
      for (int i = 0; i < 32; ++i) {
        if (i % 4 / 2 != half) continue;
        scores[i] =
            tile_.Sees(first_token + ColumnOf(i)) ? tile_.job.scale * scores[i] : -kInfinity;
        max = Larger(scores[i], max);
      }
      for (int step = 1; step < 4; step *= 2) {
        max = Larger(__shfl_xor_sync(kAllLanes, max, step), max);
      }
      float sum = 0.0f;
      ORRERY_UNROLL
      for (int i = 2 * half; i < 32; i += 4) {
        const float low = Exp(scores[i] - max), high = Exp(scores[i + 1] - max);
        sum += low;
        sum += high;
        *reinterpret_cast<uint32_t*>(weights + SwizzledOffset(h, ColumnOf(i) * 2)) =
            PairOfBf16(FlushedBf16(low), FlushedBf16(high));
      }
      for (int step = 1; step < 4; step *= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
      if (LaneOfThread() % 4 == 0) {
        const float shrink = Exp(before - max);
        memory_.max[h] = max;
        memory_.sum[h] = fmaf(memory_.sum[h], shrink, sum);
        memory_.shrink[block % 2][h] = shrink;
      }
    }
    SayWritten(memory_.softened[block % 2]);
  }

  __device__ void AddValues(int block, float (&context)[128]) const {
    const int buffer = block % 2;
    ptx::Await(memory_.softened[buffer], ParityOf(block));
    const float shrink[2] = {memory_.shrink[buffer][HeadOf(0)], memory_.shrink[buffer][HeadOf(1)]};
    // Mostly the maximum has been there before: 1 changes nothing.
    if (__ballot_sync(kAllLanes, shrink[0] != 1.0f || shrink[1] != 1.0f) != 0) {
      ORRERY_UNROLL
      for (int i = 0; i < 128; ++i) context[i] *= shrink[i % 4 / 2];
    }
    Slab* const slabs = memory_.buffers[buffer].slabs;
    const uint64_t weights = ptx::AlongRows(slabs[kWeightsSlab]);
    const uint64_t values = ptx::AcrossRows(slabs[group_ * kHalfSlabs], sizeof(Slab));
    ptx::PinSums(context);
    ptx::FenceProducts();
    ORRERY_UNROLL
    for (int token = 0; token < kKvBlockTokens; token += 16) {
      ptx::MultiplyBf16Across(context, ptx::Advanced(weights, token * 2),
                              ptx::Advanced(values, token * kSlabBytes));
    }
    ptx::CommitProducts();
    ptx::AwaitProducts<0>();
    ptx::PinSums(context);
    __syncwarp();
    if (LaneOfThread() == 0) {
      ptx::Arrive(memory_.empty[buffer][group_]);
      ptx::Arrive(memory_.empty[buffer][kNumParts - 1]);
    }
  }

  const AttendTile& tile_;
  Memory& memory_;
  const int group_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_ATTENTION_WGMMA_H_
