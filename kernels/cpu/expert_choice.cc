#include "kernels/cpu/expert_choice.h"

#include <xmmintrin.h>

#include <algorithm>
#include <limits>

namespace orrery {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr int kQuad = 4;  // values of an SSE register, which every x86-64 has

// The larger of each two, and where one is a NaN, the second.
struct BestTwo {
  __m128 first = _mm_set1_ps(kLowest);
  __m128 second = _mm_set1_ps(kLowest);

  void Add(__m128 value) {
    second = _mm_max_ps(second, _mm_min_ps(first, value));
    first = _mm_max_ps(first, value);
  }
  // Of all lanes, in lane 0.
  void Join() {
    const BestTwo other = {_mm_movehl_ps(first, first), _mm_movehl_ps(second, second)};
    Add(other.first);
    Add(other.second);
    const BestTwo next = {_mm_shuffle_ps(first, first, 1), _mm_shuffle_ps(second, second, 1)};
    Add(next.first);
    Add(next.second);
  }
};

float GroupScore(const float* choice, int group_size, GateParams::GroupScore kind) {
  BestTwo best;
  int i = 0;
  for (; i + kQuad <= group_size; i += kQuad) best.Add(_mm_loadu_ps(choice + i));
  best.Join();
  BestTwo all = {_mm_set_ss(_mm_cvtss_f32(best.first)), _mm_set_ss(_mm_cvtss_f32(best.second))};
  for (; i < group_size; ++i) all.Add(_mm_set_ss(choice[i]));
  const float first = _mm_cvtss_f32(all.first);
  const bool only_first = kind == GateParams::GroupScore::kMax || group_size == 1;
  return only_first ? first : first + _mm_cvtss_f32(all.second);
}

// Of kSegment values.
float Largest(const float* values) {
  static_assert(ExpertChoice::kSegment == 4 * kQuad);
  __m128 max =
      _mm_max_ps(_mm_max_ps(_mm_loadu_ps(values), _mm_loadu_ps(values + kQuad)),
                 _mm_max_ps(_mm_loadu_ps(values + 2 * kQuad), _mm_loadu_ps(values + 3 * kQuad)));
  max = _mm_max_ps(max, _mm_movehl_ps(max, max));
  return _mm_cvtss_f32(_mm_max_ss(max, _mm_shuffle_ps(max, max, 1)));
}

// Index of the largest; the first of equals.
int Best(const float* values, int num) {
  int best = 0;
  for (int i = 1; i < num; ++i) best = values[i] > values[best] ? i : best;
  return best;
}

}  // namespace

void ExpertChoice::Reserve(const GateParams& params) {
  const size_t num_segments = (params.num_experts + kSegment - 1) / kSegment;
  if (choice_.size() < num_segments * kSegment) choice_.resize(num_segments * kSegment);
  if (segments_.size() < num_segments) segments_.resize(num_segments);
  if (banned_.size() < static_cast<size_t>(params.num_experts)) banned_.resize(params.num_experts);
  if (group_scores_.size() < static_cast<size_t>(params.num_groups)) {
    group_scores_.resize(params.num_groups);
    kept_.resize(params.num_groups);
  }
}

void ExpertChoice::BanRejectedGroups(const GateParams& params) {
  const int group_size = params.num_experts / params.num_groups;
  for (int g = 0; g < params.num_groups; ++g) {
    group_scores_[g] = GroupScore(choice_.data() + g * group_size, group_size, params.group_score);
  }
  std::fill_n(kept_.begin(), params.num_groups, false);
  for (int n = 0; n < params.num_kept_groups; ++n) {
    int best = -1;
    for (int g = 0; g < params.num_groups; ++g) {
      if (!kept_[g] && (best < 0 || group_scores_[g] > group_scores_[best])) best = g;
    }
    kept_[best] = true;
  }
  for (int g = 0; g < params.num_groups; ++g) {
    if (kept_[g]) continue;
    std::fill_n(choice_.begin() + g * group_size, group_size, kLowest);
    std::fill_n(banned_.begin() + g * group_size, group_size, true);
  }
}

int ExpertChoice::TakeBest(int num_experts) {
  const int num_segments = (num_experts + kSegment - 1) / kSegment;
  const int segment = Best(segments_.data(), num_segments);
  int best = 0;
  if (segments_[segment] > kLowest) {
    float* const values = choice_.data() + segment * kSegment;
    best = segment * kSegment + Best(values, kSegment);
    choice_[best] = kLowest;
    segments_[segment] = Largest(values);
  } else {
    while (banned_[best]) ++best;  // all that are left have the lowest value
  }
  banned_[best] = true;
  return best;
}

void ExpertChoice::Choose(const float* scores, const GateParams& params, int32_t* ids) {
  Reserve(params);
  const int num_experts = params.num_experts;
  const int num_segments = (num_experts + kSegment - 1) / kSegment;
  for (int e = 0; e < num_experts; ++e) {
    const float value = params.bias == nullptr ? scores[e] : scores[e] + params.bias[e];
    choice_[e] = value == value ? value : kLowest;
  }
  std::fill(choice_.begin() + num_experts, choice_.begin() + num_segments * kSegment, kLowest);
  std::fill_n(banned_.begin(), num_experts, false);
  if (params.num_kept_groups < params.num_groups) BanRejectedGroups(params);
  for (int s = 0; s < num_segments; ++s) segments_[s] = Largest(choice_.data() + s * kSegment);
  for (int n = 0; n < params.topk; ++n) {
    const int best = TakeBest(num_experts);
    int at = n;
    for (; at > 0 && ids[at - 1] > best; --at) ids[at] = ids[at - 1];
    ids[at] = best;
  }
}

}  // namespace orrery
