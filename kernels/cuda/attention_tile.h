// What the two ways of computing attention share (attention_f32.h, attention_bf16.h): the part of a job that
// one block of threads works on, one step of the online softmax, and where results go. For kernels.
#ifndef ORRERY_KERNELS_CUDA_ATTENTION_TILE_H_
#define ORRERY_KERNELS_CUDA_ATTENTION_TILE_H_

#include <cuda_runtime.h>

#include "kernels/cuda/attention_jobs.h"
#include "kernels/cuda/device_math.h"

namespace orrery {

// Of the values, a block takes at most as many as its registers hold for all its heads.
inline constexpr int kTileValues = 512;

__host__ __device__ constexpr int NumUnits(int num, int unit) { return (num + unit - 1) / unit; }
__host__ __device__ constexpr int RoundUpTo(int unit, int num) {
  return NumUnits(num, unit) * unit;
}

// Blocks of threads for one row and span.
__host__ __device__ inline int NumTiles(const AttendJob& job, int tile_heads) {
  return NumUnits(job.num_heads, tile_heads) * NumUnits(job.value_dim, kTileValues);
}

__host__ __device__ inline int FirstSpan(const AttendJob& job) {
  return job.begin_position / kSpanTokens;
}
// Spans of a row that sees positions up to end.
__host__ __device__ inline int NumSpans(const AttendJob& job, int64_t end) {
  return static_cast<int>((end - 1) / kSpanTokens) - FirstSpan(job) + 1;
}

// Some heads and values of one row, over one span.
struct AttendTile {
  const AttendJob& job;
  int64_t row;
  int span;  // counted from the first
  int first_head;
  int num_heads;
  int first_value;
  int num_values;
  // Positions that it sees. None: the row ends before the span.
  int begin;
  int end;

  __device__ bool IsEmpty() const { return begin >= end; }
  __device__ bool Sees(int position) const { return position >= begin && position < end; }
  // Positions of the blocks of the cache that hold what it sees.
  __device__ int FirstPosition() const { return begin / kKvBlockTokens * kKvBlockTokens; }
  __device__ int EndPosition() const { return RoundUpTo(kKvBlockTokens, end); }
  template <typename T>
  __device__ const T* CacheRow(int position) const {
    const int64_t row = int64_t{job.block_ids[position / kKvBlockTokens]} * kKvBlockTokens +
                        position % kKvBlockTokens;
    return reinterpret_cast<const T*>(job.cache) + row * job.row_width;
  }
  __device__ bool IsOnlySpan() const { return NumSpans(job, job.first_position + row + 1) == 1; }
};

// Heads change fastest: blocks that read the same part of the cache run at about the same time.
template <int kHeads>
__device__ AttendTile TileOfBlock(const AttendJob& job) {
  const int num_head_tiles = NumUnits(job.num_heads, kHeads);
  const int num_tiles = NumTiles(job, kHeads);
  const int64_t block = blockIdx.x - job.first_block;
  const int first_head = static_cast<int>(block % num_tiles) % num_head_tiles * kHeads;
  const int first_value = static_cast<int>(block % num_tiles) / num_head_tiles * kTileValues;
  const int64_t row = block / num_tiles % job.q.num_rows;
  const int span = static_cast<int>(block / num_tiles / job.q.num_rows);
  const int span_begin = (FirstSpan(job) + span) * kSpanTokens;
  const int64_t row_end = job.first_position + row + 1;
  const int64_t span_end = int64_t{span_begin} + kSpanTokens;
  const int heads_left = job.num_heads - first_head, values_left = job.value_dim - first_value;
  return {.job = job,
          .row = row,
          .span = span,
          .first_head = first_head,
          .num_heads = heads_left < kHeads ? heads_left : kHeads,
          .first_value = first_value,
          .num_values = values_left < kTileValues ? values_left : kTileValues,
          .begin = job.begin_position > span_begin ? job.begin_position : span_begin,
          .end = static_cast<int>(row_end < span_end ? row_end : span_end)};
}

// How far the heads of a tile have come, in shared memory: one of each for each head.
struct RunningSums {
  float* max;     // m
  float* sum;     // l
  float* shrink;  // c
};

__device__ inline void Begin(const RunningSums& sums, int num_heads) {
  if (static_cast<int>(threadIdx.x) < num_heads) {
    sums.max[threadIdx.x] = -kInfinity;
    sums.sum[threadIdx.x] = 0.0f;
  }
}

// Of tokens i and i + 32 of a block, for lane i.
struct LaneTokens {
  float low;
  float high;
};

// A warp takes head h past one block: its scores, -infinity where unseen, become weights.
__device__ inline LaneTokens Soften(const RunningSums& sums, int h, const LaneTokens& scores) {
  const float before = sums.max[h];
  const float max = Larger(MaxOfWarp(Larger(scores.low, scores.high)), before);
  const LaneTokens p = {Exp(scores.low - max), Exp(scores.high - max)};
  const float sum = SumOfWarp(p.low + p.high);
  if (LaneOfThread() == 0) {
    sums.max[h] = max;
    sums.shrink[h] = Exp(before - max);
    sums.sum[h] = fmaf(sums.sum[h], sums.shrink[h], sum);
  }
  return p;
}

__device__ inline float* PartialOf(const AttendJob& job, int64_t row, int span, int head) {
  return job.partials +
         ((row * job.num_spans + span) * job.num_heads + head) * PartialFloats(job.value_dim);
}

// Head h and value d of the tile.
__device__ inline void Store(const AttendTile& tile, const RunningSums& sums, int h, int d,
                             float context) {
  const AttendJob& job = tile.job;
  const int head = tile.first_head + h, value = tile.first_value + d;
  if (tile.IsOnlySpan()) {
    job.out.row(tile.row)[static_cast<int64_t>(head) * job.value_dim + value] =
        context / sums.sum[h];
    return;
  }
  float* const partial = PartialOf(job, tile.row, tile.span, head);
  partial[kPartialHeader + value] = context;
  if (value == 0) {
    partial[0] = sums.max[h];
    partial[1] = sums.sum[h];
  }
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_ATTENTION_TILE_H_
