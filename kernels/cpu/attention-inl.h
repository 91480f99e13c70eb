// Queries against one block of the cache: the step of the online softmax.
//
//   s   = scale * (q . key)                         canonical sum (matmul-inl.h), lanes are tokens
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

template <typename Lanes>
constexpr int RoundUpTo(int unit, int num) {
  return (num + unit - 1) / unit * unit;
}

// Sets rows[t] = load(t) for t < num, zeros for the others, and turns them round: rows[i] has lane
// i of all of them.
template <typename Lanes, typename Load>
inline void LoadAcross(int num, Load load, Lanes (&rows)[kVectorLanes]) {
  for (int t = 0; t < num; ++t) rows[t] = load(t);
  for (int t = num; t < kVectorLanes; ++t) rows[t] = Lanes::Set(0.0f);
  Lanes::Transpose(rows);
}

// Up to 16 keys into a panel.
template <typename Lanes, typename Form>
void PackKeyPanel(const float* keys, int64_t stride, int num_keys, int key_dim,
                  typename Form::Value* panel) {
  ForEachStep<Lanes>(key_dim, [&](int d, int num_dims) {
    Lanes dims[kVectorLanes];
    LoadAcross(
        num_keys, [&](int t) { return LoadStep<Lanes>(keys + t * stride + d, num_dims); }, dims);
    for (int i = 0; i < kVectorLanes; i += 4) {
      const Lanes group[4] = {dims[i], dims[i + 1], dims[i + 2], dims[i + 3]};
      Form::StoreGroup(group, panel + (d + i) * kVectorLanes);
    }
  });
}

// The same by words of two dims.
template <typename Lanes, typename Form>
void PackKeyPanel(const uint16_t* keys, int64_t stride, int num_keys, int key_dim,
                  typename Form::Value* panel) {
  for (int d = 0; d < key_dim; d += 2 * kVectorLanes) {
    const int num_dims = key_dim - d < 2 * kVectorLanes ? key_dim - d : 2 * kVectorLanes;
    Lanes words[kVectorLanes];
    LoadAcross(
        num_keys, [&](int t) { return LoadBf16Words<Lanes>(keys + t * stride + d, num_dims); },
        words);
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
void PackKeys(const PackJob& job) {
  WithForm<Lanes>(job, [&]<typename Form>(const auto* keys, typename Form::Value* to) {
    const int64_t panel_stride = RoundUpTo<Lanes>(kSumBlock, job.dim) * kVectorLanes;
    for (int token = 0; token < job.num_tokens; token += kVectorLanes, to += panel_stride) {
      const int left = job.num_tokens - token;
      PackKeyPanel<Lanes, Form>(keys + token * job.row_width, job.row_width,
                                left < kVectorLanes ? left : kVectorLanes, job.dim, to);
    }
  });
}

// One panel of values after the other.
template <typename Lanes, typename Form>
void PackValuePanels(const PackJob& job, const float* values, float* to) {
  ForEachStep<Lanes>(job.dim, [&](int d, int num_dims) {
    auto load = [&](int t) {
      if (t >= job.num_tokens) return Lanes::Set(0.0f);
      return LoadStep<Lanes>(values + t * job.row_width + d, num_dims);
    };
    for (int t = job.first_token; t < job.num_tokens; t += 4) {
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
    auto load = [&](int t) {
      if (t >= job.num_tokens) return Lanes::Set(0.0f);
      return LoadBf16Words<Lanes>(values + t * job.row_width + d, num_dims);
    };
    for (int t = job.first_token; t < job.num_tokens; t += 4) {
      const Lanes words[4] = {load(t), load(t + 1), load(t + 2), load(t + 3)};
      Form::StoreTwoGroups(words, panel + t * kVectorLanes, panel_stride);
    }
  }
}

template <typename Lanes>
void PackValues(const PackJob& job) {
  WithForm<Lanes>(job, [&]<typename Form>(const auto* values, typename Form::Value* to) {
    PackValuePanels<Lanes, Form>(job, values, to);
  });
}

// Working memory for a group of queries; shared by all groups of a call.
template <typename Lanes>
struct AttendGroup {
  static constexpr int kQueries = kVectorLanes;

  float scores[kQueries * kBlockTokens];   // [query][token]
  float weights[kQueries * kBlockTokens];  // [query][token] as activations of the values
  float shrink[kQueries];
  int64_t first;
  int num_queries;
};

template <typename Lanes, typename Form>
void ScoreGroup(const AttendBlockJob& job, AttendGroup<Lanes>& group) {
  using Value = typename Form::Value;
  const int padded = RoundUpTo<Lanes>(kSumBlock, job.key_dim);
  const int64_t panel_stride = padded * kVectorLanes;
  const int num_panels = (job.num_tokens + kVectorLanes - 1) / kVectorLanes;
  ForEachRowTile<Lanes>(group.num_queries, [&]<int kRows>(int64_t query) {
    const auto queries = Form::RowsAt(job.queries + (group.first + query) * padded, padded);
    ForEachPanelTile<Lanes, kRows>(0, num_panels, [&]<int kPanels>(int panel) {
      const auto* const data = reinterpret_cast<const Value*>(job.keys) + panel * panel_stride;
      const typename Form::Panels keys = {data, panel_stride};
      auto sum = Tile<Lanes, kRows, kPanels>::Zero();
      AddSumBlocks(queries, keys, 0, RoundUpTo<Lanes>(4, job.key_dim), sum);
      sum.ForEach([&](Lanes& lanes, int r, int p) {
        (lanes * Lanes::Set(job.scale))
            .Store(group.scores + (query + r) * kBlockTokens + (panel + p) * kVectorLanes);
      });
    });
  });
}

// Lanes are queries: LoadAcross turns them round.
template <typename Lanes>
Lanes MaxOfGroup(const AttendBlockJob& job, const AttendGroup<Lanes>& group) {
  Lanes across[kVectorLanes];
  auto largest = [&](int q) {
    Lanes max = Lanes::Set(-__builtin_inff());
    ForEachStep<Lanes>(job.num_tokens, [&](int t, int num) {
      const float* const scores = group.scores + q * kBlockTokens + t;
      max = Lanes::Max(max, LoadStep<Lanes>(scores, num, -__builtin_inff()));
    });
    return max;
  };
  LoadAcross(group.num_queries, largest, across);
  Lanes max = across[0];
  for (int i = 1; i < kVectorLanes; ++i) max = Lanes::Max(max, across[i]);
  return max;
}

// Makes weights of the scores and sums them, query by query in the order of the tokens. The last
// step of weights ends with -0, whose products with the zeros behind the values change no sum.
template <typename Lanes, typename Form>
Lanes WeighGroup(const AttendBlockJob& job, const float* max, AttendGroup<Lanes>& group) {
  Lanes sum = Lanes::Set(0.0f);
  ForEachStep<Lanes>(job.num_tokens, [&](int t, int num) {
    Lanes across[kVectorLanes];
    auto weigh = [&](int q) {
      const float* const scores = group.scores + q * kBlockTokens + t;
      const Lanes weight = Exp(Lanes::Load(scores) - Lanes::Set(max[q]));
      Lanes activation = job.is_bf16 ? Lanes::RoundToBf16(weight) : weight;
      if (num < kVectorLanes) activation = FirstLanes(activation, num, -0.0f);
      auto* const to = reinterpret_cast<typename Form::Value*>(group.weights + q * kBlockTokens);
      Form::StoreInputs(activation, to + t);
      return weight;
    };
    LoadAcross(group.num_queries, weigh, across);
    for (int i = 0; i < num; ++i) sum = sum + across[i];
  });
  return sum;
}

// Makes the weights, updates max and sum of the group, and says what its contexts so far shrink by.
template <typename Lanes, typename Form>
void SoftmaxGroup(const AttendBlockJob& job, AttendGroup<Lanes>& group) {
  float* const max = job.max + group.first;
  float* const sum = job.sum + group.first;
  const Lanes old_max = LoadStep<Lanes>(max, group.num_queries);
  const Lanes new_max = Lanes::Max(old_max, MaxOfGroup(job, group));
  const Lanes shrink = Exp(old_max - new_max);
  shrink.Store(group.shrink);
  StoreStep(new_max, group.num_queries, max);
  const Lanes block_sum = WeighGroup<Lanes, Form>(job, max, group);
  const Lanes old_sum = LoadStep<Lanes>(sum, group.num_queries);
  StoreStep(Lanes::Fma(old_sum, shrink, block_sum), group.num_queries, sum);
}

// context = context * shrink + sum over tokens of weights[token] * values[token].
template <typename Lanes, typename Form>
void GatherGroup(const AttendBlockJob& job, AttendGroup<Lanes>& group) {
  using Value = typename Form::Value;
  const int padded = RoundUpTo<Lanes>(kVectorLanes, job.value_dim);
  constexpr int64_t kPanelStride = kBlockTokens * kVectorLanes;
  ForEachRowTile<Lanes>(group.num_queries, [&]<int kRows>(int64_t query) {
    const auto weights = Form::RowsAt(group.weights + query * kBlockTokens, kBlockTokens);
    ForEachPanelTile<Lanes, kRows>(0, padded / kVectorLanes, [&]<int kPanels>(int panel) {
      const auto* const data = reinterpret_cast<const Value*>(job.values) + panel * kPanelStride;
      const typename Form::Panels values = {data, kPanelStride};
      float* const context = job.context + (group.first + query) * padded + panel * kVectorLanes;
      auto at = [&](int r, int p) { return context + r * padded + p * kVectorLanes; };
      Tile<Lanes, kRows, kPanels> sum;
      sum.ForEach([&](Lanes& lanes, int r, int p) {
        lanes = Lanes::Load(at(r, p)) * Lanes::Set(group.shrink[query + r]);
      });
      AddSumBlocks(weights, values, 0, RoundUpTo<Lanes>(4, job.num_tokens), sum);
      sum.ForEach([&](Lanes& lanes, int r, int p) { lanes.Store(at(r, p)); });
    });
  });
}

template <typename Lanes>
void AttendBlock(const AttendBlockJob& job) {
  AttendGroup<Lanes> group;
  auto attend = [&]<typename Form>() {
    constexpr int kQueries = AttendGroup<Lanes>::kQueries;
    for (group.first = 0; group.first < job.num_queries; group.first += kQueries) {
      const int64_t left = job.num_queries - group.first;
      group.num_queries = left < kQueries ? static_cast<int>(left) : kQueries;
      ScoreGroup<Lanes, Form>(job, group);
      SoftmaxGroup<Lanes, Form>(job, group);
      GatherGroup<Lanes, Form>(job, group);
    }
  };
  if (job.is_bf16) {
    attend.template operator()<RoundedForm<Lanes>>();
  } else {
    attend.template operator()<F32Form<Lanes>>();
  }
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_ATTENTION_INL_H_
