#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Query rows that share the packing of a cache block, and queries (heads of rows) that do. Their
// contexts, value_dim f32 each (512 KB for DeepSeek-V3), should stay in the second level of the cache.
constexpr int64_t kAttendRows = 16;
constexpr int kAttendQueries = 256;
// Packing a block takes as long as about 4 queries.
constexpr int kLeastHeads = 8;

static_assert(kBlockTokens == kKvBlockTokens);

int64_t RoundUp(int64_t num, int unit) { return (num + unit - 1) / unit * unit; }

// The scratch memory of one piece of attention, cut from one piece.
struct AttendScratch {
  // Without memory, only the size.
  explicit AttendScratch(const AttendPiece& piece, float* memory = nullptr)
      : key_dim(RoundUp(piece.args->key_dim, kSumBlock)),
        value_dim(RoundUp(piece.args->value_dim, kVectorLanes)),
        context_stride(value_dim + kVectorLanes) {
    const int64_t num_queries = RoundUp(piece.num_rows * piece.num_heads, kVectorLanes);
    auto take = [&](int64_t num) {
      float* const taken = memory == nullptr ? nullptr : memory + size;
      size += num;
      return taken;
    };
    keys = take(kKvBlockTokens * key_dim);
    values = take(kKvBlockTokens * value_dim);
    rounded = take(num_queries * key_dim);
    queries = take(num_queries * key_dim);
    blocks = take(num_queries / kVectorLanes * AttendBlockJob::kMemoryPerGroup);
    contexts = take(num_queries * context_stride);
    maxima = take(num_queries);
    sums = take(num_queries);
    if (memory == nullptr) return;
    std::fill_n(contexts, num_queries * context_stride, 0.0f);
    std::fill_n(maxima, num_queries, -std::numeric_limits<float>::infinity());
    std::fill_n(sums, num_queries, 0.0f);
  }

  int64_t size = 0;
  int64_t key_dim;    // padded
  int64_t value_dim;  // padded
  // A line more: 16 contexts whose lengths are a power of two would share few sets of the cache.
  int64_t context_stride;
  float* keys;  // one block, packed
  float* values;
  float* rounded;   // bf16 [num_queries, args.key_dim]: queries, before they are packed
  float* queries;   // panels
  float* blocks;    // what attend_block wants
  float* contexts;  // [num_queries, value_dim], context_stride apart
  float* maxima;    // [num_queries]
  float* sums;      // [num_queries]
};

bool IsBf16(const AttendArgs& args) { return args.cache.format == DType::kBf16; }

void PackQueries(const LaneKernels& lanes, const AttendPiece& piece, const AttendScratch& scratch) {
  const AttendArgs& args = *piece.args;
  const int64_t width = static_cast<int64_t>(piece.num_heads) * args.key_dim;
  // Rows are brought together: a panel may hold queries of two.
  for (int64_t r = 0; r < piece.num_rows; ++r) {
    const float* const q = args.q.row(piece.first_row + r) + piece.first_head * args.key_dim;
    if (IsBf16(args)) {
      lanes.round_row(q, static_cast<int>(width),
                      reinterpret_cast<uint16_t*>(scratch.rounded) + r * width);
    } else {
      std::copy_n(q, width, scratch.rounded + r * width);
    }
  }
  lanes.pack_queries({.rows = scratch.rounded,
                      .is_bf16 = IsBf16(args),
                      .row_width = args.key_dim,
                      .dim = args.key_dim,
                      .num_rows = static_cast<int>(piece.num_rows * piece.num_heads),
                      .to = scratch.queries});
}

// Against the positions [begin, end) of one block, those before packed_end packed already.
AttendBlockJob JobOf(const AttendPiece& piece, int64_t begin, int64_t packed_end, int64_t end,
                     const AttendScratch& scratch) {
  const AttendArgs& args = *piece.args;
  PackJob keys = {.rows = KvRow(args.cache, args.block_ids, begin),
                  .is_bf16 = IsBf16(args),
                  .row_width = args.cache.row_width,
                  .offset = args.key_offset,
                  .dim = args.key_dim,
                  .first_row = static_cast<int>(packed_end - begin),
                  .num_rows = static_cast<int>(end - begin),
                  .to = scratch.keys};
  PackJob values = keys;
  values.offset = args.value_offset;
  values.dim = args.value_dim;
  values.first_row = keys.first_row / 4 * 4;
  values.to = scratch.values;
  return {.queries = scratch.queries,
          .query_begin = 0,
          .query_end = piece.num_rows * piece.num_heads,
          .keys = keys,
          .values = values,
          .keeps_packed = piece.num_rows > 1 || piece.num_heads > kVectorLanes,
          .scale = args.scale,
          .memory = scratch.blocks,
          .max = scratch.maxima,
          .sum = scratch.sums,
          .context = scratch.contexts,
          .context_stride = scratch.context_stride,
          .next_rows = nullptr,
          .num_next_rows = 0};
}

void AttendAllBlocks(const LaneKernels& lanes, const AttendPiece& piece,
                     const AttendScratch& scratch) {
  const AttendArgs& args = *piece.args;
  const int64_t first_position = args.first_position + piece.first_row;
  const int64_t end = first_position + piece.num_rows;
  int64_t block_end = 0;
  for (int64_t begin = args.begin_position; begin < end; begin = block_end) {
    block_end = std::min((begin / kKvBlockTokens + 1) * kKvBlockTokens, end);
    // Rows within the block see one token more each; those behind it see all, and go together.
    int64_t packed_end = begin;
    for (int64_t row = std::max<int64_t>(begin - first_position, 0); row < piece.num_rows;) {
      const int64_t seen_end = std::min(first_position + row + 1, block_end);
      const int64_t next = seen_end < block_end ? row + 1 : piece.num_rows;
      AttendBlockJob job = JobOf(piece, begin, packed_end, seen_end, scratch);
      job.query_begin = row * piece.num_heads;
      job.query_end = next * piece.num_heads;
      if (next == piece.num_rows && block_end < end) {
        job.next_rows = KvRow(args.cache, args.block_ids, block_end);
        job.num_next_rows = static_cast<int>(std::min<int64_t>(end - block_end, kKvBlockTokens));
      }
      lanes.attend_block(job);
      packed_end = seen_end;
      row = next;
    }
  }
}

void AttendOne(const LaneKernels& lanes, const AttendPiece& piece, float* memory) {
  const AttendScratch scratch(piece, memory);
  PackQueries(lanes, piece, scratch);
  AttendAllBlocks(lanes, piece, scratch);
  const int value_dim = piece.args->value_dim;
  for (int64_t r = 0; r < piece.num_rows; ++r) {
    float* const out = piece.args->out.row(piece.first_row + r) + piece.first_head * value_dim;
    for (int h = 0; h < piece.num_heads; ++h) {
      const int64_t query = r * piece.num_heads + h;
      lanes.divide(scratch.contexts + query * scratch.context_stride, scratch.sums[query],
                   value_dim, out + h * value_dim);
    }
  }
}

// Multiply-adds of all pieces, packing included.
int64_t WorkOf(const std::vector<AttendPiece>& pieces) {
  int64_t work = 0;
  for (const AttendPiece& piece : pieces) {
    const AttendArgs& args = *piece.args;
    const int64_t num_seen =
        args.first_position + piece.first_row + piece.num_rows - args.begin_position;
    work += (piece.num_rows * piece.num_heads + 4) * num_seen * (args.key_dim + args.value_dim);
  }
  return work;
}

}  // namespace

void CpuKernels::AppendKv(ConstMatrix rows, const KvCacheView& cache,
                          absl::Span<const int32_t> block_ids, int first_position) {
  CheckAppendKv(rows, cache, block_ids, first_position);
  ShareRows(rows.num_rows, cache.row_width, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      std::byte* const to = KvRow(cache, block_ids, first_position + row);
      if (cache.format == DType::kBf16) {
        lanes_.round_row(rows.row(row), cache.row_width, reinterpret_cast<uint16_t*>(to));
      } else {
        std::memcpy(to, rows.row(row), cache.row_width * sizeof(float));
      }
    }
  });
}

size_t CpuKernels::AttendScratchValues(int attend_dims) {
  // At least what AttendScratch has: key_dim and value_dim are rounded up, and counted twice for each query.
  const size_t dims = attend_dims + kSumBlock + kVectorLanes;
  return (kKvBlockTokens + 2 * kAttendQueries) * dims +
         kAttendQueries / kVectorLanes * AttendBlockJob::kMemoryPerGroup + 2 * kAttendQueries;
}

// Cuts every row tile of every sequence into pieces of at most `heads` heads.
void CpuKernels::CutAttention(absl::Span<const AttendArgs> all, int heads) {
  attend_pieces_.clear();
  for (const AttendArgs& args : all) {
    for (int64_t r = 0; r < args.q.num_rows; r += kAttendRows) {
      const int64_t num_rows = std::min(kAttendRows, args.q.num_rows - r);
      const int fitting = std::max<int>(kAttendQueries / num_rows, kVectorLanes);
      const int step = std::min(heads, fitting);
      for (int h = 0; h < args.num_heads; h += step) {
        attend_pieces_.push_back({.args = &args,
                                  .first_row = r,
                                  .num_rows = num_rows,
                                  .first_head = h,
                                  .num_heads = std::min(step, args.num_heads - h)});
      }
    }
  }
}

void CpuKernels::Attend(absl::Span<const AttendArgs> all) {
  int heads = kAttendQueries;
  for (const AttendArgs& args : all) CheckAttend(args);
  CutAttention(all, heads);
  // Too few for the threads that they are worth: cut finer.
  const int num_wanted = std::min(pool_.num_threads(), NumPartsWorth(WorkOf(attend_pieces_)));
  while (static_cast<int>(attend_pieces_.size()) < num_wanted && heads > kLeastHeads) {
    heads /= 2;
    CutAttention(all, heads);
  }
  int64_t size = 0;
  for (const AttendPiece& piece : attend_pieces_) {
    size = std::max(size, AttendScratch(piece).size);
  }
  for (Scratch& memory : attention_) memory.Get(size);
  Share(WorkOf(attend_pieces_), static_cast<int>(attend_pieces_.size()),
        [this](int thread, int begin, int end) {
          for (int i = begin; i < end; ++i) {
            AttendOne(lanes_, attend_pieces_[i], attention_[thread].Get(0));
          }
        });
}

}  // namespace orrery
