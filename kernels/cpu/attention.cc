#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Query rows that share the widening of a cache block. Their contexts (heads * value_dim f32 each,
// 256 KB for DeepSeek-V3) are the scratch memory that this bounds.
constexpr int64_t kAttendRows = 16;

int RoundUp(int num, int unit) { return (num + unit - 1) / unit * unit; }

// The scratch memory of Attend, cut from one piece.
struct AttendScratch {
  AttendScratch(const AttendArgs& args, int64_t num_rows, Scratch& memory)
      : key_dim(RoundUp(args.key_dim, kSumBlock)),
        value_dim(RoundUp(args.value_dim, kVectorLanes)),
        padded_heads(RoundUp(args.num_heads, kVectorLanes)),
        query_size(static_cast<size_t>(padded_heads) * key_dim),
        context_size(static_cast<size_t>(args.num_heads) * value_dim) {
    const size_t keys_size = static_cast<size_t>(kKvBlockTokens) * key_dim;
    const size_t values_size = static_cast<size_t>(kKvBlockTokens) * value_dim;
    const size_t scores_size = kKvBlockTokens * kVectorLanes + kVectorLanes;
    const size_t row_size = query_size + context_size + 2 * padded_heads;
    float* next = memory.Get(keys_size + values_size + scores_size + num_rows * row_size + key_dim);
    auto take = [&next](size_t size) { return std::exchange(next, next + size); };
    keys = take(keys_size);
    values = take(values_size);
    scores = take(scores_size);
    queries = take(num_rows * query_size);
    contexts = take(num_rows * context_size);
    maxima = take(num_rows * padded_heads);
    sums = take(num_rows * padded_heads);
    head = take(key_dim);
    std::fill_n(queries, num_rows * query_size, 0.0f);
    std::fill_n(contexts, num_rows * context_size, 0.0f);
    std::fill_n(maxima, num_rows * padded_heads, -std::numeric_limits<float>::infinity());
    std::fill_n(sums, num_rows * padded_heads, 0.0f);
  }

  int key_dim;    // padded
  int value_dim;  // padded
  int padded_heads;
  size_t query_size;
  size_t context_size;
  float* keys;      // [64, key_dim]
  float* values;    // [64, value_dim]
  float* scores;    // [64, 16] and [16]
  float* queries;   // [num_rows][padded_heads / 16][key_dim][16]
  float* contexts;  // [num_rows][num_heads, value_dim]
  float* maxima;    // [num_rows, padded_heads]
  float* sums;      // [num_rows, padded_heads]
  float* head;      // [key_dim]
};

// One row of queries, heads side by side, as the weights of a product.
void PackQueries(const LaneKernels& lanes, const AttendArgs& args, const float* q,
                 const AttendScratch& scratch, float* packed) {
  const bool round = args.cache.format == DType::kBf16;
  for (int h = 0; h < args.num_heads; ++h) {
    lanes.prepare_row(q + static_cast<int64_t>(h) * args.key_dim, args.key_dim, scratch.key_dim,
                      round, scratch.head);
    float* const group =
        packed + static_cast<size_t>(h / kVectorLanes) * scratch.key_dim * kVectorLanes;
    for (int d = 0; d < scratch.key_dim; ++d) {
      group[d * kVectorLanes + h % kVectorLanes] = scratch.head[d];
    }
  }
}

// Keys and values of the positions [begin, end) of one block, as f32.
void WidenBlock(const LaneKernels& lanes, const AttendArgs& args, int64_t begin, int64_t end,
                const AttendScratch& scratch) {
  auto widen = [&](const std::byte* row, int offset, int num, int padded, float* to) {
    const std::byte* from = row + static_cast<int64_t>(offset) * DTypeBytes(args.cache.format);
    if (args.cache.format == DType::kBf16) {
      lanes.widen_row(reinterpret_cast<const uint16_t*>(from), num, padded, to);
    } else {
      lanes.prepare_row(reinterpret_cast<const float*>(from), num, padded, false, to);
    }
  };
  for (int64_t position = begin; position < end; ++position) {
    const std::byte* row = KvRow(args.cache, args.block_ids, position);
    const int64_t token = position - begin;
    widen(row, args.key_offset, args.key_dim, scratch.key_dim,
          scratch.keys + token * scratch.key_dim);
    widen(row, args.value_offset, args.value_dim, scratch.value_dim,
          scratch.values + token * scratch.value_dim);
  }
}

void AttendRowToBlock(const LaneKernels& lanes, const AttendArgs& args, int64_t row, int num_tokens,
                      const AttendScratch& scratch) {
  lanes.attend_block({
      .q = scratch.queries + row * scratch.query_size,
      .num_heads = args.num_heads,
      .key_dim = scratch.key_dim,
      .keys = scratch.keys,
      .value_dim = scratch.value_dim,
      .values = scratch.values,
      .num_tokens = num_tokens,
      .scale = args.scale,
      .round_weights = args.cache.format == DType::kBf16,
      .max = scratch.maxima + row * scratch.padded_heads,
      .sum = scratch.sums + row * scratch.padded_heads,
      .context = scratch.contexts + row * scratch.context_size,
      .scratch = scratch.scores,
  });
}

// Rows [first_row, first_row + num_rows) against all blocks that one of them sees.
void AttendRows(const LaneKernels& lanes, const AttendArgs& args, int64_t first_row,
                int64_t num_rows, Scratch& memory) {
  const AttendScratch scratch(args, num_rows, memory);
  for (int64_t r = 0; r < num_rows; ++r) {
    PackQueries(lanes, args, args.q.row(first_row + r), scratch,
                scratch.queries + r * scratch.query_size);
  }
  const int64_t first_position = args.first_position + first_row;
  const int64_t end = first_position + num_rows;
  for (int64_t begin = 0; begin < end; begin += kKvBlockTokens) {
    WidenBlock(lanes, args, begin, std::min<int64_t>(begin + kKvBlockTokens, end), scratch);
    for (int64_t r = 0; r < num_rows; ++r) {
      const int64_t num_seen = first_position + r + 1 - begin;
      if (num_seen <= 0) continue;
      AttendRowToBlock(lanes, args, r, std::min<int64_t>(num_seen, kKvBlockTokens), scratch);
    }
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int h = 0; h < args.num_heads; ++h) {
      lanes.divide(scratch.contexts + r * scratch.context_size + h * scratch.value_dim,
                   scratch.sums[r * scratch.padded_heads + h], args.value_dim,
                   args.out.row(first_row + r) + static_cast<int64_t>(h) * args.value_dim);
    }
  }
}

}  // namespace

void CpuKernels::AppendKv(ConstMatrix rows, const KvCacheView& cache,
                          absl::Span<const int32_t> block_ids, int first_position) {
  CheckAppendKv(rows, cache, block_ids, first_position);
  const ScopedFlushDenormals flush;
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    std::byte* to = KvRow(cache, block_ids, first_position + r);
    if (cache.format == DType::kBf16) {
      lanes_.round_row(rows.row(r), cache.row_width, reinterpret_cast<uint16_t*>(to));
    } else {
      std::memcpy(to, rows.row(r), cache.row_width * sizeof(float));
    }
  }
}

void CpuKernels::Attend(const AttendArgs& args) {
  CheckAttend(args);
  const ScopedFlushDenormals flush;
  for (int64_t r = 0; r < args.q.num_rows; r += kAttendRows) {
    AttendRows(lanes_, args, r, std::min(kAttendRows, args.q.num_rows - r), attention_);
  }
}

}  // namespace orrery
