#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/reference/reference_kernels.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

std::vector<float> Scores(const float* logits, const GateParams& params) {
  std::vector<float> scores(params.num_experts);
  if (params.score == GateParams::Score::kSigmoid) {
    for (int e = 0; e < params.num_experts; ++e) {
      scores[e] = static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(logits[e]))));
    }
    return scores;
  }
  const double max = *std::max_element(logits, logits + params.num_experts);
  double sum = 0.0;
  for (int e = 0; e < params.num_experts; ++e) sum += std::exp(logits[e] - max);
  for (int e = 0; e < params.num_experts; ++e) {
    scores[e] = static_cast<float>(std::exp(logits[e] - max) / sum);
  }
  return scores;
}

// Indices of the count largest values among the candidates; ties go to the lower index.
std::vector<int> Largest(const std::vector<float>& values, std::vector<int> candidates, int count) {
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](int a, int b) { return values[a] > values[b]; });
  candidates.resize(count);
  return candidates;
}

// Experts of the groups that may be chosen from, ascending.
std::vector<int> Candidates(const std::vector<float>& choice, const GateParams& params) {
  const int group_size = params.num_experts / params.num_groups;
  std::vector<float> group_scores(params.num_groups);
  for (int g = 0; g < params.num_groups; ++g) {
    std::vector<float> group(choice.begin() + g * group_size,
                             choice.begin() + (g + 1) * group_size);
    std::sort(group.begin(), group.end(), std::greater<float>());
    group_scores[g] = group[0];
    if (params.group_score == GateParams::GroupScore::kTop2Sum && group_size > 1) {
      group_scores[g] += group[1];
    }
  }
  std::vector<int> groups(params.num_groups);
  std::iota(groups.begin(), groups.end(), 0);
  groups = Largest(group_scores, groups, params.num_kept_groups);
  std::sort(groups.begin(), groups.end());
  std::vector<int> candidates;
  for (const int g : groups) {
    for (int e = g * group_size; e < (g + 1) * group_size; ++e) candidates.push_back(e);
  }
  return candidates;
}

std::vector<int> Choose(const std::vector<float>& scores, const GateParams& params) {
  std::vector<float> choice = scores;
  if (params.bias != nullptr) {
    for (int e = 0; e < params.num_experts; ++e) choice[e] += params.bias[e];
  }
  // A NaN counts as the lowest value: the answer is of no use then, but still names distinct
  // experts.
  for (float& value : choice) {
    if (std::isnan(value)) value = kLowest;
  }
  std::vector<int> chosen = Largest(choice, Candidates(choice, params), params.topk);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

void ReferenceKernels::Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
                            int32_t* expert_ids, float* weights) {
  CheckGate(logits, params);
  for (int64_t r = 0; r < logits.num_rows; ++r) {
    const std::vector<float> scores = Scores(logits.row(r), params);
    std::vector<int> ids = Choose(scores, params);
    if (forced_ids != nullptr) {
      CheckForcedIds(forced_ids + r * params.topk, params);
      ids.assign(forced_ids + r * params.topk, forced_ids + (r + 1) * params.topk);
    }
    double sum = 1e-20;  // the official code's guard against a sum of zero
    for (const int e : ids) sum += scores[e];
    for (int j = 0; j < params.topk; ++j) {
      const double weight = params.normalize ? scores[ids[j]] / sum : scores[ids[j]];
      expert_ids[r * params.topk + j] = ids[j];
      weights[r * params.topk + j] = static_cast<float>(weight * params.weight_scale);
    }
  }
}

}  // namespace orrery
