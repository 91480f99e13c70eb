// Queries against one block of the cache: the step of the online softmax.
//
//   s   = scale * (q . key)                         canonical sum (matmul-inl.h), lanes are queries
//   m'  = max(m, max of s)      c = exp(m - m')
//   p   = exp(s - m')
//   l   = fma(l, c, sum of p in the order of the tokens)
//   ctx = ctx * c + (p . values)                    canonical sum over tokens, lanes are value dims
//
// A token that a query does not see is not in the block, and leaves no trace in any sum.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_ATTENTION_INL_H_
#define ORRERY_KERNELS_CPU_ATTENTION_INL_H_

#include <stdint.h>

#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/row_kernels-inl.h"

namespace orrery {

// Sets rows[t] = load(t) for t < num, zeros for the others, and turns them round: rows[i] has lane
// i of all of them.
template <typename Lanes, typename Load>
inline void LoadAcross(int num, Load load, Lanes (&rows)[kVectorLanes]) {
  for (int t = 0; t < num; ++t) rows[t] = load(t);
  for (int t = num; t < kVectorLanes; ++t) rows[t] = Lanes::Set(0.0f);
  Lanes::Transpose(rows);
}

// Up to 16 queries into a panel.
template <typename Lanes, typename Form>
void PackQueryPanel(const float* queries, int64_t stride, int num_queries, int dim,
                    typename Form::Value* panel) {
  ForEachStep<Lanes>(dim, [&](int d, int num_dims) {
    Lanes dims[kVectorLanes];
    LoadAcross(
        num_queries, [&](int t) { return LoadStep<Lanes>(queries + t * stride + d, num_dims); },
        dims);
    for (int i = 0; i < kVectorLanes; i += 4) {
      const Lanes group[4] = {dims[i], dims[i + 1], dims[i + 2], dims[i + 3]};
      Form::StoreGroup(group, panel + (d + i) * kVectorLanes);
    }
  });
}

// The same by words of two dims.
template <typename Lanes, typename Form>
void PackQueryPanel(const uint16_t* queries, int64_t stride, int num_queries, int dim,
                    typename Form::Value* panel) {
  for (int d = 0; d < dim; d += 2 * kVectorLanes) {
    const int num_dims = dim - d < 2 * kVectorLanes ? dim - d : 2 * kVectorLanes;
    Lanes words[kVectorLanes];
    LoadAcross(
        num_queries,
        [&](int t) { return LoadBf16Words<Lanes>(queries + t * stride + d, num_dims); }, words);
    for (int i = 0; i < kVectorLanes; i += 2) {
      Form::StoreGroup(words[i], words[i + 1], panel + (d + 2 * i) * kVectorLanes);
    }
  }
}

// Calls body<Form>(rows, to) with what the job means by them.
template <typename Lanes, typename Body>
inline void WithForm(const PackJob& job, Body body) {
  auto run = [&]<typename Form, typename Value>(const Value* rows) {
    body.template operator()<Form>(rows + job.offset,
                                   reinterpret_cast<typename Form::Value*>(job.to));
  };
  if (job.is_bf16) {
    run.template operator()<RoundedForm<Lanes>>(static_cast<const uint16_t*>(job.rows));
  } else {
    run.template operator()<F32Form<Lanes>>(static_cast<const float*>(job.rows));
  }
}

template <typename Lanes>
void PackQueries(const PackJob& job) {
  WithForm<Lanes>(job, [&]<typename Form>(const auto* queries, typename Form::Value* to) {
    const int64_t panel_stride = RoundUpTo<Lanes>(kSumBlock, job.dim) * kVectorLanes;
    for (int query = 0; query < job.num_rows; query += kVectorLanes, to += panel_stride) {
      const int left = job.num_rows - query;
      PackQueryPanel<Lanes, Form>(queries + query * job.row_width, job.row_width,
                                  left < kVectorLanes ? left : kVectorLanes, job.dim, to);
    }
  });
}

template <typename Lanes, typename Form>
void PrepareKey(const float* key, int dim, float* to) {
  ForEachStep<Lanes>(dim, [&](int d, int num) { LoadStep<Lanes>(key + d, num).Store(to + d); });
}

template <typename Lanes, typename Form>
void PrepareKey(const uint16_t* key, int dim, typename Form::Value* to) {
  int d = 0;
#pragma GCC unroll 4
  for (; d + 2 * kVectorLanes <= dim; d += 2 * kVectorLanes) {
    Form::StoreRow(Lanes::LoadBits(key + d), to + d);
  }
  if (d < dim) Form::StoreRow(LoadBf16Words<Lanes>(key + d, dim - d), to + d);
}

template <typename Lanes>
void PrepareKeys(const PackJob& job) {
  WithForm<Lanes>(job, [&]<typename Form>(const auto* keys, typename Form::Value* to) {
    const int64_t padded = RoundUpTo<Lanes>(kSumBlock, job.dim);
    for (int t = job.first_row; t < job.num_rows; ++t) {
      PrepareKey<Lanes, Form>(keys + t * job.row_width, job.dim, to + t * padded);
    }
  });
}

// One panel of values after the other.
template <typename Lanes, typename Form>
void PackValuePanels(const PackJob& job, const float* values, float* to) {
  ForEachStep<Lanes>(job.dim, [&](int d, int num_dims) {
    auto load = [&](int t) {
      if (t >= job.num_rows) return Lanes::Set(0.0f);
      return LoadStep<Lanes>(values + t * job.row_width + d, num_dims);
    };
    for (int t = job.first_row; t < job.num_rows; t += 4) {
      const Lanes group[4] = {load(t), load(t + 1), load(t + 2), load(t + 3)};
      Form::StoreGroup(group, to + d * kBlockTokens + t * kVectorLanes);
    }
  });
}

// The same by words of two dims: two panels at once.
template <typename Lanes, typename Form>
void PackValuePanels(const PackJob& job, const uint16_t* values, typename Form::Value* to) {
  for (int d = 0; d < job.dim; d += 2 * kVectorLanes) {
    const int num_dims = job.dim - d < 2 * kVectorLanes ? job.dim - d : 2 * kVectorLanes;
    typename Form::Value* const panel = to + d * kBlockTokens;
    // A second panel that is only padding is not there: its zeros go where the first ones will.
    const int64_t panel_stride = num_dims > kVectorLanes ? kBlockTokens * kVectorLanes : 0;
    auto pack = [&](int t, auto load) {
      const Lanes words[4] = {load(t), load(t + 1), load(t + 2), load(t + 3)};
      Form::StoreTwoGroups(words, panel + t * kVectorLanes, panel_stride);
    };
    int t = job.first_row;
    if (num_dims == 2 * kVectorLanes) {
      for (; t + 4 <= job.num_rows; t += 4) {
        pack(t, [&](int i) { return Lanes::LoadBits(values + i * job.row_width + d); });
      }
    }
    for (; t < job.num_rows; t += 4) {
      pack(t, [&](int i) {
        if (i >= job.num_rows) return Lanes::Set(0.0f);
        return LoadBf16Words<Lanes>(values + i * job.row_width + d, num_dims);
      });
    }
  }
}

template <typename Lanes>
void PackValues(const PackJob& job) {
  WithForm<Lanes>(job, [&]<typename Form>(const auto* values, typename Form::Value* to) {
    PackValuePanels<Lanes, Form>(job, values, to);
  });
}

// A panel of queries, of which those from begin to end see the block; and its working memory.
template <typename Lanes>
struct AttendGroup {
  static constexpr int kQueries = kVectorLanes;

  float* scores;   // [token][query]
  float* weights;  // [query][token] as activations of the values
  float* shrink;   // [query]
  int64_t first;   // of the job's queries
  int begin;
  int end;
};

template <typename Lanes>
inline int NumGroups(const AttendBlockJob& job) {
  constexpr int kQueries = AttendGroup<Lanes>::kQueries;
  return static_cast<int>((job.query_end + kQueries - 1) / kQueries - job.query_begin / kQueries);
}

template <typename Lanes>
inline AttendGroup<Lanes> GroupAt(const AttendBlockJob& job, int index) {
  constexpr int kQueries = AttendGroup<Lanes>::kQueries;
  AttendGroup<Lanes> group;
  group.scores = job.memory + index * int64_t{AttendBlockJob::kMemoryPerGroup};
  group.weights = group.scores + kBlockTokens * kQueries;
  group.shrink = group.weights + kBlockTokens * kQueries;
  group.first = (job.query_begin / kQueries + index) * kQueries;
  const int64_t begin = job.query_begin - group.first;
  const int64_t end = job.query_end - group.first;
  group.begin = begin > 0 ? static_cast<int>(begin) : 0;
  group.end = end < kQueries ? static_cast<int>(end) : kQueries;
  return group;
}

// Calls body(group) for all groups of the job.
template <typename Lanes, typename Body>
inline void ForEachGroup(const AttendBlockJob& job, Body body) {
  const int num_groups = NumGroups<Lanes>(job);
  for (int i = 0; i < num_groups; ++i) body(GroupAt<Lanes>(job, i));
}

// Fetches rows into the cache, some lines at a time: for each the keys, then the values. Few at a time, for more
// misses than the processor can have open stop it.
template <typename Lanes>
class RowPrefetch {
 public:
  // The next block's, as much of them with each of num_sum_blocks.
  static RowPrefetch Make(const AttendBlockJob& job, int64_t num_sum_blocks) {
    return Make(job, 0, job.num_next_rows, num_sum_blocks);
  }
  // The same of the rows [begin, end) of the next block.
  static RowPrefetch Make(const AttendBlockJob& job, int begin, int end, int64_t num_sum_blocks) {
    const int value_bytes = job.keys.is_bf16 ? sizeof(uint16_t) : sizeof(float);
    RowPrefetch prefetch;
    prefetch.rows_left_ = end - begin;
    prefetch.stride_ = job.keys.row_width * value_bytes;
    prefetch.row_ = static_cast<const uint8_t*>(job.next_rows) + begin * prefetch.stride_;
    prefetch.AddRange(job.keys.offset * value_bytes, job.keys.dim * value_bytes);
    const int keys_end = job.keys.offset + job.keys.dim;
    // Values that are the front of the keys come with them.
    if (job.values.offset < job.keys.offset || job.values.offset + job.values.dim > keys_end) {
      prefetch.AddRange(job.values.offset * value_bytes, job.values.dim * value_bytes);
    }
    const int64_t num_lines = int64_t{end - begin} * prefetch.lines_per_row_;
    prefetch.lines_per_block_ = static_cast<int>((num_lines + num_sum_blocks - 1) / num_sum_blocks);
    prefetch.StartRange();
    return prefetch;
  }

  void FetchBlock() {
    for (int i = 0; i < lines_per_block_ && rows_left_ > 0; ++i) {
      __builtin_prefetch(line_, /*rw=*/0, /*locality=*/2);
      line_ += kLineBytes;
      if (--lines_left_ == 0) NextRange();
    }
  }

 private:
  static constexpr int kLineBytes = 64;
  struct Range {
    int64_t begin = 0;  // bytes within a row
    int num_lines = 0;
  };

  void AddRange(int64_t begin, int num_bytes) {
    ranges_[num_ranges_++] = {begin, (num_bytes + kLineBytes - 1) / kLineBytes};
    lines_per_row_ += ranges_[num_ranges_ - 1].num_lines;
  }
  void NextRange() {
    if (++range_ == num_ranges_) {
      range_ = 0;
      row_ += stride_;
      --rows_left_;
    }
    StartRange();
  }
  void StartRange() {
    line_ = row_ + ranges_[range_].begin;
    lines_left_ = ranges_[range_].num_lines;
  }

  const uint8_t* row_ = nullptr;
  int rows_left_ = 0;
  int64_t stride_ = 0;
  Range ranges_[2];
  int num_ranges_ = 0;
  int lines_per_row_ = 0;
  int lines_per_block_ = 0;
  // Where it is: of the row, in this range.
  int range_ = 0;
  const uint8_t* line_ = nullptr;
  int lines_left_ = 0;
};

// The scores of the tokens [begin, end), whose keys they are, before they are scaled.
template <typename Lanes, typename Form>
void ScoreGroup(const AttendBlockJob& job, const float* keys, int begin, int end,
                const AttendGroup<Lanes>& group, RowPrefetch<Lanes>& prefetch) {
  const int padded = RoundUpTo<Lanes>(kSumBlock, job.keys.dim);
  const auto* const panel =
      reinterpret_cast<const typename Form::Value*>(job.queries) + group.first * padded;
  const typename Form::Panels queries = {panel, static_cast<int64_t>(padded) * kVectorLanes};
  const auto* const rows = reinterpret_cast<const typename Form::Value*>(keys);
  // One panel: the tile may be as high as it has sums.
  ForEachRowTile<Lanes::kTileSums>(end - begin, [&]<int kRows>(int64_t token) {
    const typename Form::Activations some = {rows + token * padded, padded};
    auto sum = Tile<Lanes, kRows, 1>::Zero();
    AddSumBlocks(some, queries, 0, RoundUpTo<Lanes>(4, job.keys.dim), prefetch, sum);
    sum.ForEach([&](Lanes& lanes, int r, int) {
      lanes.Store(group.scores + (begin + token + r) * kVectorLanes);
    });
  });
}

// To those that see the block.
template <typename Lanes>
void StoreQueries(Lanes lanes, const AttendGroup<Lanes>& group, float* to) {
  float values[kVectorLanes];
  lanes.Store(values);
  for (int q = group.begin; q < group.end; ++q) to[q] = values[q];
}

// Lanes are queries; makes weights of the scores in their place, and returns the sum of each query's
// in the order of the tokens.
template <typename Lanes>
Lanes WeighGroup(const AttendBlockJob& job, Lanes max, const AttendGroup<Lanes>& group) {
  Lanes sum = Lanes::Set(0.0f);
  for (int t = 0; t < job.keys.num_rows; ++t) {
    float* const at = group.scores + t * kVectorLanes;
    const Lanes weight = Exp(Lanes::Load(at) - max);
    sum = sum + weight;
    (job.keys.is_bf16 ? Lanes::RoundToBf16(weight) : weight).Store(at);
  }
  return sum;
}

// Turns the weights round: a query's are the activations that meet the values. They end with -0, up to
// a whole block of inputs, whose products with the zeros behind the values change no sum.
template <typename Lanes, typename Form>
void TurnWeights(const AttendBlockJob& job, const AttendGroup<Lanes>& group) {
  for (int t = 0; t < RoundUpTo<Lanes>(kSumBlock, job.keys.num_rows); t += kVectorLanes) {
    Lanes tokens[kVectorLanes];
    for (int i = 0; i < kVectorLanes; ++i) {
      tokens[i] = t + i < job.keys.num_rows ? Lanes::Load(group.scores + (t + i) * kVectorLanes)
                                            : Lanes::Set(-0.0f);
    }
    Lanes::Transpose(tokens);
    for (int q = group.begin; q < group.end; ++q) {
      auto* const to = reinterpret_cast<typename Form::Value*>(group.weights + q * kBlockTokens);
      Form::StoreInputs(tokens[q], to + t);
    }
  }
}

// Scales the scores, makes the weights, updates max and sum of the group, and says what its contexts so far shrink by.
template <typename Lanes, typename Form>
void SoftmaxGroup(const AttendBlockJob& job, const AttendGroup<Lanes>& group) {
  float* const max = job.max + group.first;
  float* const sum = job.sum + group.first;
  const Lanes old_max = Lanes::Load(max);
  Lanes block_max = Lanes::Set(-__builtin_inff());
  for (int t = 0; t < job.keys.num_rows; ++t) {
    float* const at = group.scores + t * kVectorLanes;
    const Lanes score = Lanes::Load(at) * Lanes::Set(job.scale);
    score.Store(at);
    block_max = Lanes::Max(block_max, score);
  }
  const Lanes new_max = Lanes::Max(old_max, block_max);
  const Lanes shrink = Exp(old_max - new_max);
  shrink.Store(group.shrink);
  const Lanes block_sum = WeighGroup(job, new_max, group);
  StoreQueries(new_max, group, max);
  StoreQueries(Lanes::Fma(Lanes::Load(sum), shrink, block_sum), group, sum);
  TurnWeights<Lanes, Form>(job, group);
}

// context = context * shrink + sum over tokens of weights[token] * values[token], for the panels
// [begin, end), whose values they are.
template <typename Lanes, typename Form>
void GatherGroup(const AttendBlockJob& job, const float* packed, int begin, int end,
                 const AttendGroup<Lanes>& group, RowPrefetch<Lanes>& prefetch) {
  using Value = typename Form::Value;
  constexpr int64_t kPanelStride = kBlockTokens * kVectorLanes;
  using Shape = TileShape<Lanes, typename Form::Panels>;
  ForEachRowTile<Shape::kRows>(group.end - group.begin, [&]<int kRows>(int64_t row) {
    const int64_t query = group.begin + row;
    const auto weights = Form::RowsAt(group.weights + query * kBlockTokens, kBlockTokens);
    ForEachPanelTile<Lanes, Shape, kRows>(begin, end, [&]<int kPanels>(int panel) {
      const auto* const data =
          reinterpret_cast<const Value*>(packed) + (panel - begin) * kPanelStride;
      const typename Form::Panels values = {data, kPanelStride};
      float* const context =
          job.context + (group.first + query) * job.context_stride + panel * kVectorLanes;
      auto at = [&](int r, int p) { return context + r * job.context_stride + p * kVectorLanes; };
      Tile<Lanes, kRows, kPanels> sum;
      sum.ForEach([&](Lanes& lanes, int r, int p) {
        lanes = Lanes::Load(at(r, p)) * Lanes::Set(group.shrink[query + r]);
      });
      AddSumBlocks(weights, values, 0, RoundUpTo<Lanes>(4, job.keys.num_rows), prefetch, sum);
      sum.ForEach([&](Lanes& lanes, int r, int p) { lanes.Store(at(r, p)); });
    });
  });
}

// Of inputs, with which all tiles of the job are summed (AddSumBlocks).
template <typename Lanes, typename Form>
int64_t NumSumBlocks(const AttendBlockJob& job) {
  using Shape = TileShape<Lanes, typename Form::Panels>;
  const auto blocks = [](int num_inputs) { return (num_inputs + kSumBlock - 1) / kSumBlock; };
  const int64_t num_queries = job.query_end - job.query_begin;
  const int64_t num_groups = (num_queries + kVectorLanes - 1) / kVectorLanes;
  const int num_score_tiles = (job.keys.num_rows + Lanes::kTileSums - 1) / Lanes::kTileSums;
  const int num_panels = RoundUpTo<Lanes>(kVectorLanes, job.values.dim) / kVectorLanes;
  return num_groups * num_score_tiles * blocks(job.keys.dim) +
         NumTiles<Shape>(num_queries, num_panels) * blocks(job.keys.num_rows);
}

// All tokens' keys are packed, then scored by one group after the other; or, when packed keys need
// not be kept, a few of them at a time, which then lie in the first level of the cache.
template <typename Lanes, typename Form>
void ScoreGroups(const AttendBlockJob& job, RowPrefetch<Lanes>& prefetch) {
  const int num_tokens = job.keys.num_rows;
  const int tokens_at_once = job.keeps_packed ? num_tokens : Lanes::kTileSums;
  const int64_t row_bytes =
      job.keys.row_width * (job.keys.is_bf16 ? sizeof(uint16_t) : sizeof(float));
  for (int begin = 0; begin < num_tokens; begin += tokens_at_once) {
    const int left = num_tokens - begin;
    PackJob some = job.keys;
    some.rows = static_cast<const uint8_t*>(some.rows) + begin * row_bytes;
    some.num_rows = left < tokens_at_once ? left : tokens_at_once;
    PrepareKeys<Lanes>(some);
    ForEachGroup<Lanes>(job, [&](const AttendGroup<Lanes>& group) {
      ScoreGroup<Lanes, Form>(job, some.to, begin, begin + some.num_rows, group, prefetch);
    });
  }
}

// Values are packed and met: all panels, or when they need not be kept, some at a time.
template <typename Lanes, typename Form>
void GatherGroups(const AttendBlockJob& job, RowPrefetch<Lanes>& prefetch) {
  const int num_panels = RoundUpTo<Lanes>(kVectorLanes, job.values.dim) / kVectorLanes;
  const int panels_at_once = job.keeps_packed ? num_panels : 4;
  for (int begin = 0; begin < num_panels; begin += panels_at_once) {
    const int left = num_panels - begin;
    const int end = left < panels_at_once ? num_panels : begin + panels_at_once;
    PackJob some = job.values;
    some.offset += begin * kVectorLanes;
    some.dim -= begin * kVectorLanes;
    if (end < num_panels) some.dim = (end - begin) * kVectorLanes;
    PackValues<Lanes>(some);
    ForEachGroup<Lanes>(job, [&](const AttendGroup<Lanes>& group) {
      GatherGroup<Lanes, Form>(job, some.to, begin, end, group, prefetch);
    });
  }
}

template <typename Lanes>
void AttendBlock(const AttendBlockJob& job) {
  auto attend = [&]<typename Form>() {
    auto prefetch = RowPrefetch<Lanes>::Make(job, NumSumBlocks<Lanes, Form>(job));
    ScoreGroups<Lanes, Form>(job, prefetch);
    ForEachGroup<Lanes>(
        job, [&](const AttendGroup<Lanes>& group) { SoftmaxGroup<Lanes, Form>(job, group); });
    GatherGroups<Lanes, Form>(job, prefetch);
  };
  if (job.keys.is_bf16) {
    attend.template operator()<RoundedForm<Lanes>>();
  } else {
    attend.template operator()<F32Form<Lanes>>();
  }
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_ATTENTION_INL_H_
