#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Query rows that share the packing of a cache block. Their contexts (heads * value_dim f32 each,
// 256 KB for DeepSeek-V3) are the scratch memory that this bounds.
constexpr int64_t kAttendRows = 16;

static_assert(kBlockTokens == kKvBlockTokens);

int64_t RoundUp(int64_t num, int unit) { return (num + unit - 1) / unit * unit; }

// The scratch memory of Attend, cut from one piece. A query is one head of one row.
struct AttendScratch {
  AttendScratch(const AttendArgs& args, int64_t num_rows, Scratch& memory)
      : key_dim(RoundUp(args.key_dim, kSumBlock)),
        value_dim(RoundUp(args.value_dim, kVectorLanes)) {
    const int64_t num_queries = RoundUp(num_rows * args.num_heads, kVectorLanes);
    const int64_t block_size = kKvBlockTokens * (key_dim + value_dim);
    float* next = memory.Get(block_size + num_queries * (2 * key_dim + value_dim + 2));
    auto take = [&next](int64_t size) { return std::exchange(next, next + size); };
    keys = take(kKvBlockTokens * key_dim);
    values = take(kKvBlockTokens * value_dim);
    rounded = take(num_queries * key_dim);
    queries = take(num_queries * key_dim);
    contexts = take(num_queries * value_dim);
    maxima = take(num_queries);
    sums = take(num_queries);
    // Keys and queries have no gaps that are not written, but padding.
    std::memset(keys, 0, kKvBlockTokens * key_dim * sizeof(float));
    std::memset(queries, 0, num_queries * key_dim * sizeof(float));
    std::fill_n(contexts, num_queries * value_dim, 0.0f);
    std::fill_n(maxima, num_queries, -std::numeric_limits<float>::infinity());
    std::fill_n(sums, num_queries, 0.0f);
  }

  int64_t key_dim;    // padded
  int64_t value_dim;  // padded
  float* keys;        // one block, prepared and packed
  float* values;
  float* rounded;   // bf16 [num_queries, args.key_dim]: queries, before they are packed
  float* queries;   // panels
  float* contexts;  // [num_queries, value_dim]
  float* maxima;    // [num_queries]
  float* sums;      // [num_queries]
};

bool IsBf16(const AttendArgs& args) { return args.cache.format == DType::kBf16; }

void PackQueries(const LaneKernels& lanes, const AttendArgs& args, ConstMatrix q,
                 const AttendScratch& scratch) {
  const int64_t width = static_cast<int64_t>(args.num_heads) * args.key_dim;
  // Rows are brought together: a panel may hold queries of two.
  for (int64_t r = 0; r < q.num_rows; ++r) {
    if (IsBf16(args)) {
      lanes.round_row(q.row(r), static_cast<int>(width),
                      reinterpret_cast<uint16_t*>(scratch.rounded) + r * width);
    } else {
      std::copy_n(q.row(r), width, scratch.rounded + r * width);
    }
  }
  lanes.pack_queries({.rows = scratch.rounded,
                      .is_bf16 = IsBf16(args),
                      .row_width = args.key_dim,
                      .dim = args.key_dim,
                      .num_rows = static_cast<int>(q.num_rows * args.num_heads),
                      .to = scratch.queries});
}

// Keys or values of the positions [begin, end) of one block, those before packed_end packed already.
PackJob PackJobOf(const AttendArgs& args, int64_t begin, int64_t packed_end, int64_t end) {
  return {.rows = KvRow(args.cache, args.block_ids, begin),
          .is_bf16 = IsBf16(args),
          .row_width = args.cache.row_width,
          .first_row = static_cast<int>(packed_end - begin),
          .num_rows = static_cast<int>(end - begin)};
}

void PackBlock(const LaneKernels& lanes, const AttendArgs& args, int64_t begin, int64_t packed_end,
               int64_t end, const AttendScratch& scratch) {
  PackJob job = PackJobOf(args, begin, packed_end, end);
  job.offset = args.key_offset;
  job.dim = args.key_dim;
  job.to = scratch.keys;
  lanes.prepare_keys(job);
  job.first_row = job.first_row / 4 * 4;
  job.offset = args.value_offset;
  job.dim = args.value_dim;
  job.to = scratch.values;
  lanes.pack_values(job);
}

// Rows [begin, end), which see the first num_tokens tokens of the packed block.
void AttendBlock(const LaneKernels& lanes, const AttendArgs& args, int64_t begin, int64_t end,
                 int64_t num_tokens, const AttendScratch& scratch) {
  lanes.attend_block({.queries = scratch.queries,
                      .query_begin = begin * args.num_heads,
                      .query_end = end * args.num_heads,
                      .is_bf16 = IsBf16(args),
                      .num_tokens = static_cast<int>(num_tokens),
                      .key_dim = args.key_dim,
                      .keys = scratch.keys,
                      .value_dim = args.value_dim,
                      .values = scratch.values,
                      .scale = args.scale,
                      .max = scratch.maxima,
                      .sum = scratch.sums,
                      .context = scratch.contexts});
}

// Rows [first_row, first_row + num_rows) against all blocks that one of them sees.
void AttendRows(const LaneKernels& lanes, const AttendArgs& args, int64_t first_row,
                int64_t num_rows, Scratch& memory) {
  const AttendScratch scratch(args, num_rows, memory);
  PackQueries(lanes, args, args.q.Rows(first_row, num_rows), scratch);
  const int64_t first_position = args.first_position + first_row;
  const int64_t end = first_position + num_rows;
  int64_t block_end = 0;
  for (int64_t begin = args.begin_position; begin < end; begin = block_end) {
    block_end = std::min((begin / kKvBlockTokens + 1) * kKvBlockTokens, end);
    // Rows within the block see one token more each; those behind it see all, and go together.
    int64_t packed_end = begin;
    for (int64_t row = std::max<int64_t>(begin - first_position, 0); row < num_rows;) {
      const int64_t seen_end = std::min(first_position + row + 1, block_end);
      const int64_t next = seen_end < block_end ? row + 1 : num_rows;
      PackBlock(lanes, args, begin, packed_end, seen_end, scratch);
      AttendBlock(lanes, args, row, next, seen_end - begin, scratch);
      packed_end = seen_end;
      row = next;
    }
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int h = 0; h < args.num_heads; ++h) {
      const int64_t query = r * args.num_heads + h;
      lanes.divide(scratch.contexts + query * scratch.value_dim, scratch.sums[query],
                   args.value_dim,
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
