// Attention over an f32 cache, which exists for exact comparisons: plain loops, 16 heads to a block of threads.
// For attention.cu.cc, which has the order of the sums.
#ifndef ORRERY_KERNELS_CUDA_ATTENTION_F32_H_
#define ORRERY_KERNELS_CUDA_ATTENTION_F32_H_

#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/ptx.h"

namespace orrery {

struct AttendF32 {
  static constexpr int kHeads = 16;
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kResident = 4;  // blocks of threads on a multiprocessor, as registers allow

  // [16][kScoreStride] scores, then p; [16] each of the running sums; [16][tile values] context;
  // [16][key_dim] q.
  static constexpr int kScoreStride = kKvBlockTokens + 4;
  static size_t SharedBytes(const AttendJob& job) {
    const int num_values = job.value_dim < kTileValues ? job.value_dim : kTileValues;
    return sizeof(float) * kHeads * (size_t{kScoreStride + 3} + num_values + job.key_dim);
  }

  __device__ explicit AttendF32(const AttendTile& tile) : tile(tile) {
    scores = reinterpret_cast<float*>(ptx::DynamicSharedMemory());
    float* const max = scores + kHeads * kScoreStride;
    sums = {max, max + kHeads, max + 2 * kHeads};
    context = max + 3 * kHeads;
    q = context + kHeads * tile.num_values;
  }

  __device__ void Run() const {
    Begin(sums, kHeads);
    LoadQueries();
    for (int i = Thread(); i < kHeads * tile.num_values; i += kThreads) context[i] = 0.0f;
    __syncthreads();
    for (int block = tile.FirstPosition(); block < tile.EndPosition(); block += kKvBlockTokens) {
      Score(block);
      __syncthreads();
      SoftenBlock(block);
      __syncthreads();
      AddValues(block);
      __syncthreads();
    }
    for (int h = 0; h < tile.num_heads; ++h) {
      for (int d = Thread(); d < tile.num_values; d += kThreads) {
        Store(tile, sums, h, d, context[h * tile.num_values + d]);
      }
    }
  }

 private:
  __device__ static int Thread() { return static_cast<int>(threadIdx.x); }

  // Heads that are not there count as zeros.
  __device__ void LoadQueries() const {
    const AttendJob& job = tile.job;
    const float* const from =
        job.q.row(tile.row) + static_cast<int64_t>(tile.first_head) * job.key_dim;
    for (int i = Thread(); i < kHeads * job.key_dim; i += kThreads) {
      q[i] = i < tile.num_heads * job.key_dim ? from[i] : 0.0f;
    }
  }

  // A thread scores one token for half of the heads.
  __device__ void Score(int block) const {
    const AttendJob& job = tile.job;
    const int token = Thread() % kKvBlockTokens;
    const int first_head = Thread() / kKvBlockTokens * (kHeads / 2);
    if (!tile.Sees(block + token)) return;
    const float* const key = tile.CacheRow<float>(block + token) + job.key_offset;
    float sum[kHeads / 2] = {};
    for (int d = 0; d < job.key_dim; ++d) {
      for (int h = 0; h < kHeads / 2; ++h) {
        sum[h] = fmaf(q[(first_head + h) * job.key_dim + d], key[d], sum[h]);
      }
    }
    for (int h = 0; h < kHeads / 2; ++h) {
      scores[(first_head + h) * kScoreStride + token] = job.scale * sum[h];
    }
  }

  __device__ void SoftenBlock(int block) const {
    const int low = LaneOfThread(), high = low + kWarpThreads;
    for (int h = WarpOfThread(); h < kHeads; h += kBlockWarps) {
      float* const row = scores + h * kScoreStride;
      const LaneTokens p = Soften(sums, h,
                                  {tile.Sees(block + low) ? row[low] : -kInfinity,
                                   tile.Sees(block + high) ? row[high] : -kInfinity});
      row[low] = p.low;
      row[high] = p.high;
    }
  }

  // A thread has one value of all heads at a time.
  __device__ void AddValues(int block) const {
    const AttendJob& job = tile.job;
    const int begin = tile.begin > block ? tile.begin : block;
    const int end = tile.end < block + kKvBlockTokens ? tile.end : block + kKvBlockTokens;
    for (int d = Thread(); d < tile.num_values; d += kThreads) {
      float sum[kHeads] = {};
      for (int position = begin; position < end; ++position) {
        const float value = tile.CacheRow<float>(position)[job.value_offset + tile.first_value + d];
        for (int h = 0; h < kHeads; ++h) {
          sum[h] = fmaf(scores[h * kScoreStride + position - block], value, sum[h]);
        }
      }
      for (int h = 0; h < kHeads; ++h) {
        float& to = context[h * tile.num_values + d];
        to = fmaf(to, sums.shrink[h], sum[h]);
      }
    }
  }

  const AttendTile& tile;
  float* scores;
  RunningSums sums;
  float* context;
  float* q;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_ATTENTION_F32_H_
