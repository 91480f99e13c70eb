// One row of queries against one block of the cache: the step of the online softmax.
//
//   s   = scale * (q . key)                         canonical sum (matmul-inl.h), lanes are heads
//   m'  = max(m, max of s)      c = exp(m - m')
//   p   = exp(s - m')
//   l   = fma(l, c, sum of p in the order of the tokens)
//   ctx = ctx * c + (p . values)                    canonical sum over tokens, lanes are value dims
//
// A token that the row does not see is not read and leaves no trace in any sum.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_ATTENTION_INL_H_
#define ORRERY_KERNELS_CPU_ATTENTION_INL_H_

#include <stdint.h>

#include "kernels/cpu/matmul-inl.h"

namespace orrery {

// scores[token][head of the group] = scale * (q . key).
template <typename Lanes>
void ScoreGroup(const AttendBlockJob& job, const float* q, float* scores) {
  const F32Panels<Lanes> queries = {q, 0, kVectorLanes};
  ForEachRowTile<Lanes>(job.num_tokens, [&]<int kRows>(int64_t token) {
    const Activations<Lanes, 1> keys = {job.keys + token * job.key_dim, job.key_dim};
    auto sum = Tile<Lanes, kRows, 1>::Zero();
    AddSumBlocks(keys, queries, 0, job.key_dim, sum);
    sum.ForEach([&](Lanes& lanes, int r, int) {
      (lanes * Lanes::Set(job.scale)).Store(scores + (token + r) * kVectorLanes);
    });
  });
}

// Replaces the scores by weights, updates max and sum of the group, and gives what the context so
// far shrinks by.
template <typename Lanes>
Lanes SoftmaxGroup(const AttendBlockJob& job, float* scores, float* max, float* sum) {
  const Lanes old_max = Lanes::Load(max);
  Lanes new_max = old_max;
  for (int t = 0; t < job.num_tokens; ++t) {
    new_max = Lanes::Max(new_max, Lanes::Load(scores + t * kVectorLanes));
  }
  Lanes block_sum = Lanes::Set(0.0f);
  for (int t = 0; t < job.num_tokens; ++t) {
    const Lanes weight = Exp(Lanes::Load(scores + t * kVectorLanes) - new_max);
    block_sum = block_sum + weight;
    (job.round_weights ? Lanes::RoundToBf16(weight) : weight).Store(scores + t * kVectorLanes);
  }
  const Lanes shrink = Exp(old_max - new_max);
  new_max.Store(max);
  Lanes::Fma(Lanes::Load(sum), shrink, block_sum).Store(sum);
  return shrink;
}

// context[head] = context[head] * shrink[head] + sum over tokens of weights[token][head] *
// values[token].
template <typename Lanes>
void GatherGroup(const AttendBlockJob& job, const float* weights, const float* shrink,
                 int num_heads, float* context) {
  ForEachRowTile<Lanes>(num_heads, [&]<int kRows>(int64_t head) {
    const Activations<Lanes, kVectorLanes> x = {weights + head, 1};
    for (int d = 0; d < job.value_dim; d += kVectorLanes) {
      const F32Panels<Lanes> values = {job.values + d, 0, job.value_dim};
      float* const at = context + head * job.value_dim + d;
      Tile<Lanes, kRows, 1> sum;
      sum.ForEach([&](Lanes& lanes, int r, int) {
        lanes = Lanes::Load(at + static_cast<int64_t>(r) * job.value_dim) *
                Lanes::Set(shrink[head + r]);
      });
      AddSumBlocks(x, values, 0, job.num_tokens, sum);
      sum.ForEach([&](Lanes& lanes, int r, int) {
        lanes.Store(at + static_cast<int64_t>(r) * job.value_dim);
      });
    }
  });
}

template <typename Lanes>
void AttendBlock(const AttendBlockJob& job) {
  float* const scores = job.scratch;  // [64][16]
  float* const shrink = job.scratch + 64 * kVectorLanes;
  for (int head = 0; head < job.num_heads; head += kVectorLanes) {
    const int num_heads = job.num_heads - head < kVectorLanes ? job.num_heads - head : kVectorLanes;
    ScoreGroup<Lanes>(job, job.q + static_cast<int64_t>(head) * job.key_dim, scores);
    SoftmaxGroup<Lanes>(job, scores, job.max + head, job.sum + head).Store(shrink);
    GatherGroup<Lanes>(job, scores, shrink, num_heads,
                       job.context + static_cast<int64_t>(head) * job.value_dim);
  }
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_ATTENTION_INL_H_
