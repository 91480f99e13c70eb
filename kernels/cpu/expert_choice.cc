#include "kernels/cpu/expert_choice.h"

#include <limits>

namespace orrery {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Index of the largest value that is not banned; there is one.
int Best(const std::vector<float>& values, const std::vector<char>& banned) {
  int best = -1;
  for (int i = 0; i < static_cast<int>(values.size()); ++i) {
    if (!banned[i] && (best < 0 || values[i] > values[best])) best = i;
  }
  return best;
}

float GroupScore(const float* choice, int group_size, GateParams::GroupScore kind) {
  float first = kLowest;
  float second = kLowest;
  for (int i = 0; i < group_size; ++i) {
    if (choice[i] > first) {
      second = first;
      first = choice[i];
    } else if (choice[i] > second) {
      second = choice[i];
    }
  }
  const bool only_first = kind == GateParams::GroupScore::kMax || group_size == 1;
  return only_first ? first : first + second;
}

}  // namespace

void ExpertChoice::BanRejectedGroups(const GateParams& params) {
  const int group_size = params.num_experts / params.num_groups;
  group_scores_.resize(params.num_groups);
  for (int g = 0; g < params.num_groups; ++g) {
    group_scores_[g] = GroupScore(choice_.data() + g * group_size, group_size, params.group_score);
  }
  kept_.assign(params.num_groups, false);
  for (int n = 0; n < params.num_kept_groups; ++n) kept_[Best(group_scores_, kept_)] = true;
  for (int e = 0; e < params.num_experts; ++e) banned_[e] = !kept_[e / group_size];
}

void ExpertChoice::Choose(const float* scores, const GateParams& params, int32_t* ids) {
  choice_.resize(params.num_experts);
  for (int e = 0; e < params.num_experts; ++e) {
    const float value = params.bias == nullptr ? scores[e] : scores[e] + params.bias[e];
    choice_[e] = value == value ? value : kLowest;
  }
  banned_.assign(params.num_experts, false);
  if (params.num_kept_groups < params.num_groups) BanRejectedGroups(params);
  // The chosen ones, ascending, are those that this loop bans.
  for (int n = 0; n < params.topk; ++n) {
    const int best = Best(choice_, banned_);
    banned_[best] = true;
    int at = n;
    for (; at > 0 && ids[at - 1] > best; --at) ids[at] = ids[at - 1];
    ids[at] = best;
  }
}

}  // namespace orrery
