// The paged cache: appending to it, and attention over it.
//
// A block of threads computes up to 16 heads of one row, and walks through the blocks of the cache in
// order. For each, with s the scores of its 64 tokens:
//
//   s    = scale * (q . key)                 one sum per score
//   m'   = max(m, max of s)                  c = exp(m - m')         p = exp(s - m')
//   l    = fma(l, c, sum of p)               lane i adds tokens i and i + 32, then SumOfWarp
//   ctx  = fma(ctx, c, p . values)           one sum per head and dim
//   out  = ctx / l                           at the end
//
// The sums: in bf16 a chain of mma.sync from zero, over key dims in steps of 16, over tokens in steps of
// 16 with p rounded to bf16; in f32 a chain of fused multiply-adds over dims, or tokens, in order.
//
// A token that the row does not see is never read: it counts as zeros with p = 0, so what lies there
// leaves no trace.

#include <algorithm>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/job_array.h"
#include "kernels/cuda/ptx.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

constexpr int kTileHeads = 16;  // rows of an mma
constexpr int kWarpHeads = kTileHeads / kBlockWarps;
constexpr int kWarpTokens = kKvBlockTokens / kBlockWarps;
constexpr int kStepDims = 32;  // of keys: two mma, as in tiled_weight.h
constexpr int kLaneDims = 8;
constexpr int kGroupDims = 16;  // of values: the columns of two mma
static_assert(kWarpTokens == 16 && kKvBlockTokens == 2 * kWarpThreads);

__host__ __device__ constexpr int RoundUpTo(int unit, int num) {
  return (num + unit - 1) / unit * unit;
}

// What a block keeps, in dynamic shared memory.
struct AttendMemory {
  // Scores, then p. Rows are padded: to keep lanes of a fragment on different banks.
  static constexpr int kScoreStride = kKvBlockTokens + 4;

  float* scores;   // [16][kScoreStride]
  float* max;      // [16] m
  float* shrink;   // [16] c
  float* sum;      // [16] l
  float* context;  // [16][value_stride]
  std::byte* q;    // [16][key_stride] of bf16 or f32
  int value_stride;
  int key_stride;

  __device__ explicit AttendMemory(const AttendJob& job)
      : value_stride(ValueStride(job.value_dim)), key_stride(KeyStride(job.key_dim)) {
    scores = reinterpret_cast<float*>(ptx::DynamicSharedMemory());
    max = scores + kTileHeads * kScoreStride;
    shrink = max + kTileHeads;
    sum = shrink + kTileHeads;
    context = sum + kTileHeads;
    q = reinterpret_cast<std::byte*>(context + kTileHeads * value_stride);
  }
  static size_t NumBytes(const AttendJob& job) {
    return kTileHeads *
           (sizeof(float) * (kScoreStride + 3 + ValueStride(job.value_dim)) +
            size_t{static_cast<unsigned>(DTypeBytes(job.format))} * KeyStride(job.key_dim));
  }
  __host__ __device__ static constexpr int ValueStride(int value_dim) {
    return RoundUpTo(kGroupDims, value_dim) + 4;
  }
  __host__ __device__ static constexpr int KeyStride(int key_dim) {
    return RoundUpTo(kStepDims, key_dim) + 8;
  }
};

// What a block of threads works on, and how far it has come.
struct AttendTile {
  const AttendJob& job;
  int64_t row;
  int first_head;
  int num_heads;  // of the 16
  // The block of the cache that it has come to, and those of its tokens that the row sees.
  const std::byte* cache_rows = nullptr;
  int token_begin = 0;
  int token_end = 0;

  template <typename T>
  __device__ const T* CacheRow(int token) const {
    return reinterpret_cast<const T*>(cache_rows) + static_cast<int64_t>(token) * job.row_width;
  }
  __device__ bool Sees(int token) const { return token >= token_begin && token < token_end; }
};

// Heads that are not there count as zeros.
__device__ void LoadQueries(const AttendTile& tile, const AttendMemory& memory) {
  const AttendJob& job = tile.job;
  for (int index = static_cast<int>(threadIdx.x); index < kTileHeads * memory.key_stride;
       index += kBlockThreads) {
    const int h = index / memory.key_stride, d = index % memory.key_stride;
    float value = 0.0f;
    if (h < tile.num_heads && d < job.key_dim) {
      value = job.q.row(tile.row)[static_cast<int64_t>(tile.first_head + h) * job.key_dim + d];
    }
    if (job.format == DType::kBf16) {
      reinterpret_cast<uint16_t*>(memory.q)[index] = FlushedBf16(value);
    } else {
      reinterpret_cast<float*>(memory.q)[index] = value;
    }
  }
}

// Eight bf16 as pairs, zeros behind the first num; in one piece where that is possible.
__device__ FourWords LoadEight(const uint16_t* from, int num) {
  if (num >= kLaneDims && reinterpret_cast<uintptr_t>(from) % sizeof(FourWords) == 0) {
    return *reinterpret_cast<const FourWords*>(from);
  }
  FourWords pairs = {};
  for (int i = 0; i < kLaneDims; ++i) {
    if (i < num) pairs.word[i / 2] |= static_cast<uint32_t>(from[i]) << (i % 2 * 16);
  }
  return pairs;
}

// Two bf16 as a pair, likewise.
__device__ uint32_t LoadTwo(const uint16_t* from, int num) {
  if (num >= 2 && reinterpret_cast<uintptr_t>(from) % sizeof(uint32_t) == 0) {
    return *reinterpret_cast<const uint32_t*>(from);
  }
  return PairOfBf16(num > 0 ? from[0] : uint16_t{0}, num > 1 ? from[1] : uint16_t{0});
}

// A warp scores 16 tokens: the columns of two mma.
__device__ void ScoreBf16(const AttendTile& tile, const AttendMemory& memory) {
  const AttendJob& job = tile.job;
  const int lane = LaneOfThread(), g = lane / 4, t = lane % 4;
  const int first_token = WarpOfThread() * kWarpTokens;
  const auto* const q = reinterpret_cast<const uint16_t*>(memory.q) + t * kLaneDims;
  float sum[2][4] = {};
  for (int d = 0; d < job.key_dim; d += kStepDims) {
    const auto low = *reinterpret_cast<const FourWords*>(q + g * memory.key_stride + d);
    const auto high = *reinterpret_cast<const FourWords*>(q + (g + 8) * memory.key_stride + d);
    for (int n = 0; n < 2; ++n) {
      const int token = first_token + n * 8 + g, first_dim = d + t * kLaneDims;
      FourWords keys = {};
      if (tile.Sees(token)) {
        keys = LoadEight(tile.CacheRow<uint16_t>(token) + job.key_offset + first_dim,
                         job.key_dim - first_dim);
      }
      for (int k = 0; k < 4; k += 2) {
        const uint32_t a[4] = {low.word[k], high.word[k], low.word[k + 1], high.word[k + 1]};
        const uint32_t b[2] = {keys.word[k], keys.word[k + 1]};
        ptx::MmaBf16(sum[n], a, b);
      }
    }
  }
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 4; ++i) {
      memory.scores[(g + i / 2 * 8) * AttendMemory::kScoreStride + first_token + n * 8 + 2 * t +
                    i % 2] = job.scale * sum[n][i];
    }
  }
}

// A thread scores one token for half of the heads.
__device__ void ScoreF32(const AttendTile& tile, const AttendMemory& memory) {
  const AttendJob& job = tile.job;
  const int token = static_cast<int>(threadIdx.x) % kKvBlockTokens;
  const int first_head = static_cast<int>(threadIdx.x) / kKvBlockTokens * (kTileHeads / 2);
  if (!tile.Sees(token)) return;
  const float* const key = tile.CacheRow<float>(token) + job.key_offset;
  const float* const q = reinterpret_cast<const float*>(memory.q) + first_head * memory.key_stride;
  float sum[kTileHeads / 2] = {};
  for (int d = 0; d < job.key_dim; ++d) {
    for (int h = 0; h < kTileHeads / 2; ++h) {
      sum[h] = fmaf(q[h * memory.key_stride + d], key[d], sum[h]);
    }
  }
  for (int h = 0; h < kTileHeads / 2; ++h) {
    memory.scores[(first_head + h) * AttendMemory::kScoreStride + token] = job.scale * sum[h];
  }
}

// Scores become weights; a warp has four heads.
__device__ void Soften(const AttendTile& tile, const AttendMemory& memory) {
  const int low = LaneOfThread(), high = low + kWarpThreads;
  const bool sees_low = tile.Sees(low), sees_high = tile.Sees(high);
  for (int i = 0; i < kWarpHeads; ++i) {
    const int h = WarpOfThread() * kWarpHeads + i;
    float* const scores = memory.scores + h * AttendMemory::kScoreStride;
    const float before = memory.max[h];
    const float score_low = sees_low ? scores[low] : -kInfinity;
    const float score_high = sees_high ? scores[high] : -kInfinity;
    const float max = Larger(MaxOfWarp(Larger(score_low, score_high)), before);
    const float p_low = sees_low ? Exp(score_low - max) : 0.0f;
    const float p_high = sees_high ? Exp(score_high - max) : 0.0f;
    scores[low] = p_low;
    scores[high] = p_high;
    const float sum = SumOfWarp(p_low + p_high);
    if (LaneOfThread() == 0) {
      memory.max[h] = max;
      memory.shrink[h] = Exp(before - max);
      memory.sum[h] = fmaf(memory.sum[h], memory.shrink[h], sum);
    }
  }
}

// A warp takes every fourth group of 16 dims: the even ones are the columns of one mma, the odd ones of
// another, so that lane (g, t) loads dims 2g, 2g+1 of a token in one piece and ends with
// dims 4t ... 4t+3 of heads g and g+8. Tokens 4t ... 4t+3 of 16 are its columns of p.
__device__ void AddValuesBf16(const AttendTile& tile, const AttendMemory& memory) {
  const AttendJob& job = tile.job;
  const int lane = LaneOfThread(), g = lane / 4, t = lane % 4;
  for (int d = WarpOfThread() * kGroupDims; d < job.value_dim; d += kBlockWarps * kGroupDims) {
    const int first_dim = d + 2 * g;
    float even[4] = {}, odd[4] = {};
    for (int first_token = 0; first_token < kKvBlockTokens; first_token += kTileHeads) {
      uint32_t values[4] = {};
      for (int i = 0; i < 4; ++i) {
        const int token = first_token + 4 * t + i;
        if (!tile.Sees(token)) continue;
        values[i] = LoadTwo(tile.CacheRow<uint16_t>(token) + job.value_offset + first_dim,
                            job.value_dim - first_dim);
      }
      uint32_t p[4];
      for (int half = 0; half < 2; ++half) {
        const auto four = *reinterpret_cast<const FourFloats*>(
            memory.scores + (g + 8 * half) * AttendMemory::kScoreStride + first_token + 4 * t);
        p[half] = PairOfBf16(FlushedBf16(four.value[0]), FlushedBf16(four.value[1]));
        p[half + 2] = PairOfBf16(FlushedBf16(four.value[2]), FlushedBf16(four.value[3]));
      }
      uint32_t b_even[2], b_odd[2];
      for (int i = 0; i < 2; ++i) {
        b_even[i] = (values[2 * i] & 0xffffu) | values[2 * i + 1] << 16;
        b_odd[i] = values[2 * i] >> 16 | (values[2 * i + 1] & 0xffff0000u);
      }
      ptx::MmaBf16(even, p, b_even);
      ptx::MmaBf16(odd, p, b_odd);
    }
    for (int half = 0; half < 2; ++half) {
      const float shrink = memory.shrink[g + 8 * half];
      auto& four = *reinterpret_cast<FourFloats*>(memory.context +
                                                  (g + 8 * half) * memory.value_stride + d + 4 * t);
      for (int i = 0; i < 4; ++i) {
        const float added = i % 2 == 0 ? even[2 * half + i / 2] : odd[2 * half + i / 2];
        four.value[i] = fmaf(four.value[i], shrink, added);
      }
    }
  }
}

// A thread has one dim of all heads at a time.
__device__ void AddValuesF32(const AttendTile& tile, const AttendMemory& memory) {
  const AttendJob& job = tile.job;
  for (int d = static_cast<int>(threadIdx.x); d < job.value_dim; d += kBlockThreads) {
    float sum[kTileHeads] = {};
    for (int token = tile.token_begin; token < tile.token_end; ++token) {
      const float value = tile.CacheRow<float>(token)[job.value_offset + d];
      for (int h = 0; h < kTileHeads; ++h) {
        sum[h] = fmaf(memory.scores[h * AttendMemory::kScoreStride + token], value, sum[h]);
      }
    }
    for (int h = 0; h < kTileHeads; ++h) {
      float& context = memory.context[h * memory.value_stride + d];
      context = fmaf(context, memory.shrink[h], sum[h]);
    }
  }
}

__host__ __device__ int NumHeadTiles(const AttendJob& job) {
  return (job.num_heads + kTileHeads - 1) / kTileHeads;
}

__global__ void __launch_bounds__(kBlockThreads) AttendRow(const AttendJob* jobs, int num_jobs) {
  const AttendJob& job = JobOfBlock(jobs, num_jobs);
  const AttendMemory memory(job);
  const int64_t block = blockIdx.x - job.first_block;
  const int first_head = static_cast<int>(block % NumHeadTiles(job)) * kTileHeads;
  const int heads_left = job.num_heads - first_head;
  AttendTile tile = {job, block / NumHeadTiles(job), first_head,
                     heads_left < kTileHeads ? heads_left : kTileHeads};
  LoadQueries(tile, memory);
  for (int i = static_cast<int>(threadIdx.x); i < kTileHeads * memory.value_stride;
       i += kBlockThreads) {
    memory.context[i] = 0.0f;
  }
  if (threadIdx.x < kTileHeads) {
    memory.max[threadIdx.x] = -kInfinity;
    memory.sum[threadIdx.x] = 0.0f;
  }
  __syncthreads();
  const int64_t end = job.first_position + tile.row + 1;
  const int64_t block_bytes = int64_t{kKvBlockTokens} * job.row_width * DTypeBytes(job.format);
  for (int64_t kv_block = job.begin_position / kKvBlockTokens; kv_block * kKvBlockTokens < end;
       ++kv_block) {
    const int64_t first_position = kv_block * kKvBlockTokens;
    tile.cache_rows = job.cache + job.block_ids[kv_block] * block_bytes;
    tile.token_begin = first_position < job.begin_position
                           ? static_cast<int>(job.begin_position - first_position)
                           : 0;
    tile.token_end = end - first_position < kKvBlockTokens ? static_cast<int>(end - first_position)
                                                           : kKvBlockTokens;
    const bool is_bf16 = job.format == DType::kBf16;
    is_bf16 ? ScoreBf16(tile, memory) : ScoreF32(tile, memory);
    __syncthreads();
    Soften(tile, memory);
    __syncthreads();
    is_bf16 ? AddValuesBf16(tile, memory) : AddValuesF32(tile, memory);
    __syncthreads();
  }
  for (int index = static_cast<int>(threadIdx.x); index < tile.num_heads * job.value_dim;
       index += kBlockThreads) {
    const int h = index / job.value_dim, d = index % job.value_dim;
    job.out.row(tile.row)[static_cast<int64_t>(first_head + h) * job.value_dim + d] =
        memory.context[h * memory.value_stride + d] / memory.sum[h];
  }
}

__global__ void AppendRow(ConstMatrix rows, KvCacheView cache, const int32_t* block_ids,
                          int first_position) {
  const int64_t position = first_position + int64_t{blockIdx.x};
  const int64_t cache_row =
      int64_t{block_ids[position / kKvBlockTokens]} * kKvBlockTokens + position % kKvBlockTokens;
  const float* const from = rows.row(blockIdx.x);
  const int64_t first = cache_row * cache.row_width;
  for (int i = static_cast<int>(threadIdx.x); i < cache.row_width; i += kBlockThreads) {
    if (cache.format == DType::kBf16) {
      reinterpret_cast<uint16_t*>(cache.data)[first + i] = FlushedBf16(from[i]);
    } else {
      reinterpret_cast<float*>(cache.data)[first + i] = from[i];
    }
  }
}

AttendJob JobOf(const AttendArgs& args) {
  AttendJob job;
  job.q = args.q;
  job.out = args.out;
  job.num_heads = args.num_heads;
  job.key_dim = args.key_dim;
  job.key_offset = args.key_offset;
  job.value_dim = args.value_dim;
  job.value_offset = args.value_offset;
  job.scale = args.scale;
  job.format = args.cache.format;
  job.cache = args.cache.data;
  job.row_width = args.cache.row_width;
  job.begin_position = args.begin_position;
  job.first_position = args.first_position;
  return job;
}

}  // namespace

void CudaKernels::AppendKv(ConstMatrix rows, const KvCacheView& cache,
                           absl::Span<const int32_t> block_ids, int first_position) {
  CheckAppendKv(rows, cache, block_ids, first_position);
  staging_.Reserve(block_ids.size() * sizeof(int32_t) + kStagingAlignment);
  Launch("AppendKv", AppendRow, {rows.num_rows, kBlockThreads}, rows, cache,
         staging_.Put(block_ids), first_position);
}

void CudaKernels::Attend(absl::Span<const AttendArgs> all) {
  attend_jobs_.clear();
  block_ids_.clear();
  int64_t num_blocks = 0;
  size_t shared_bytes = 0;
  for (const AttendArgs& args : all) {
    CheckAttend(args);
    AttendJob job = JobOf(args);
    job.first_block = num_blocks;
    if (args.q.num_rows == 0) continue;
    attend_jobs_.push_back(job);
    // Only those that are walked through.
    const int64_t end = args.first_position + args.q.num_rows;
    const auto first = args.block_ids.begin();
    block_ids_.insert(block_ids_.end(), first, first + (end + kKvBlockTokens - 1) / kKvBlockTokens);
    num_blocks += args.q.num_rows * NumHeadTiles(job);
    shared_bytes = std::max(shared_bytes, AttendMemory::NumBytes(job));
  }
  staging_.Reserve(block_ids_.size() * sizeof(int32_t) + attend_jobs_.size() * sizeof(AttendJob) +
                   2 * kStagingAlignment);
  const int32_t* ids = staging_.Put(absl::MakeConstSpan(block_ids_));
  for (AttendJob& job : attend_jobs_) {
    job.block_ids = ids;
    ids += (job.first_position + job.q.num_rows + kKvBlockTokens - 1) / kKvBlockTokens;
  }
  Launch("Attend", AttendRow, {num_blocks, kBlockThreads, shared_bytes},
         staging_.Put(absl::MakeConstSpan(attend_jobs_)), static_cast<int>(attend_jobs_.size()));
}

}  // namespace orrery
