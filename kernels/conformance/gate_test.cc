// Gate of every implementation: each variant against a plain model, then the corners one by one.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

class Gate : public KernelsConformance {
 protected:
  Choice Run(const std::vector<float>& logits, const GateParams& params,
             const int32_t* forced_ids = nullptr) {
    const int num_rows = static_cast<int>(logits.size()) / params.num_experts;
    TestMatrix x(num_rows, params.num_experts, logits);
    Choice choice;
    choice.ids.resize(num_rows * params.topk);
    choice.weights.resize(num_rows * params.topk);
    kernels_->Gate(x.view(), params, forced_ids, choice.ids.data(), choice.weights.data());
    return choice;
  }
};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Gate);

std::vector<double> Scores(const float* logits, const GateParams& params) {
  std::vector<double> scores;
  double sum = 0.0;
  for (int e = 0; e < params.num_experts; ++e) {
    scores.push_back(params.score == GateParams::Score::kSigmoid
                         ? 1.0 / (1.0 + std::exp(-logits[e]))
                         : std::exp(logits[e]));
    sum += scores.back();
  }
  if (params.score == GateParams::Score::kSoftmax) {
    for (double& score : scores) score /= sum;
  }
  return scores;
}

// Chosen experts by sorting, and by how much: the least distance between what was kept and what was not, of groups and
// of experts. Within rounding of f32 another choice would be as good.
struct PlainChoice {
  std::vector<int32_t> ids;
  double margin = std::numeric_limits<double>::infinity();
};
constexpr double kLeastMargin = 1e-6;

// The distance between the last kept and the first that was not, of descending values.
template <typename T>
double Margin(const std::vector<std::pair<double, T>>& sorted, int num_kept) {
  return num_kept < static_cast<int>(sorted.size())
             ? sorted[num_kept - 1].first - sorted[num_kept].first
             : std::numeric_limits<double>::infinity();
}

PlainChoice Chosen(const std::vector<double>& scores, const GateParams& params) {
  std::vector<double> choice = scores;
  for (int e = 0; e < params.num_experts; ++e) {
    choice[e] += params.bias == nullptr ? 0.0 : params.bias[e];
  }
  const int size = params.num_experts / params.num_groups;
  std::vector<std::pair<double, int>> groups;
  for (int g = 0; g < params.num_groups; ++g) {
    std::vector<double> group(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::sort(group.rbegin(), group.rend());
    const bool two = params.group_score == GateParams::GroupScore::kTop2Sum && size > 1;
    groups.emplace_back(two ? group[0] + group[1] : group[0], g);
  }
  std::sort(groups.rbegin(), groups.rend());
  std::vector<std::pair<double, int>> candidates;
  for (int n = 0; n < params.num_kept_groups; ++n) {
    for (int e = groups[n].second * size; e < (groups[n].second + 1) * size; ++e) {
      candidates.emplace_back(choice[e], e);
    }
  }
  std::sort(candidates.rbegin(), candidates.rend());
  PlainChoice chosen;
  for (int j = 0; j < params.topk; ++j) chosen.ids.push_back(candidates[j].second);
  std::sort(chosen.ids.begin(), chosen.ids.end());
  chosen.margin = std::min(Margin(groups, params.num_kept_groups), Margin(candidates, params.topk));
  return chosen;
}

TEST_P(Gate, AgreesWithThePlainModelInEveryVariant) {
  int num_undecided = 0;
  struct Shape {
    int num_experts, num_groups, num_kept_groups, topk;
  };
  for (const Shape& s : {Shape{256, 8, 4, 8}, Shape{24, 3, 2, 5}, Shape{7, 1, 1, 3},
                         Shape{6, 6, 3, 2}, Shape{1, 1, 1, 1}, Shape{33, 11, 11, 33}}) {
    const std::vector<float> logits = RandomValues(s.num_experts).Make(9 * s.num_experts, 2.0f);
    const std::vector<float> bias = RandomValues(7).Make(s.num_experts, 0.3f);
    for (int variant = 0; variant < 16; ++variant) {
      SCOPED_TRACE(testing::Message() << s.num_experts << " experts, variant " << variant);
      GateParams params;
      params.score = variant & 1 ? GateParams::Score::kSoftmax : GateParams::Score::kSigmoid;
      params.group_score =
          variant & 2 ? GateParams::GroupScore::kMax : GateParams::GroupScore::kTop2Sum;
      params.normalize = variant & 4;
      params.bias = variant & 8 ? bias.data() : nullptr;
      params.num_experts = s.num_experts;
      params.num_groups = s.num_groups;
      params.num_kept_groups = s.num_kept_groups;
      params.topk = s.topk;
      params.weight_scale = 2.5f;
      const Choice choice = Run(logits, params);
      for (int r = 0; r < 9; ++r) {
        const std::vector<double> scores = Scores(logits.data() + r * s.num_experts, params);
        const auto [ids, margin] = Chosen(scores, params);
        if (margin < kLeastMargin) {
          ++num_undecided;
          continue;
        }
        double sum = 0.0;
        for (int e : ids) sum += scores[e];
        for (int j = 0; j < s.topk; ++j) {
          ASSERT_EQ(choice.ids[r * s.topk + j], ids[j]) << "row " << r;
          const double want = 2.5 * scores[ids[j]] / (params.normalize ? sum : 1.0);
          // Scores within a few units of the sum over the experts, then the sum over the chosen.
          ASSERT_NEAR(choice.weights[r * s.topk + j], want,
                      (s.num_experts + s.topk + 20) * kF32Unit * want);
        }
      }
    }
  }
  EXPECT_LT(num_undecided, 9) << "of 864 rows";
}

GateParams Small(int num_experts, int topk) {
  GateParams params;
  params.num_experts = num_experts;
  params.topk = topk;
  return params;
}

TEST_P(Gate, TakesNoRows) { EXPECT_TRUE(Run({}, Small(4, 2)).ids.empty()); }

TEST_P(Gate, GivesTiesToTheLowerIndex) {
  EXPECT_EQ(Run({1, 2, 2, 1, 2, 1}, Small(6, 2)).ids, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(Run({1, 2, 2, 1, 2, 1}, Small(6, 4)).ids, (std::vector<int32_t>{0, 1, 2, 4}));
  GateParams params = Small(6, 2);
  params.num_groups = 3;
  params.num_kept_groups = 1;
  EXPECT_EQ(Run({0, 1, 1, 0, 1, 0}, params).ids, (std::vector<int32_t>{0, 1}));
}

// All choice scores of the kept group are negative: a mask of zero would pick the rejected experts.
TEST_P(Gate, NeverChoosesFromARejectedGroup) {
  const std::vector<float> bias = {-9, -9, -5, -5, -7, -7};
  GateParams params = Small(6, 2);
  params.num_groups = 3;
  params.num_kept_groups = 1;
  params.bias = bias.data();
  EXPECT_EQ(Run({0, 0, 0, 0, 0, 0}, params).ids, (std::vector<int32_t>{2, 3}));
}

// Group 0 has the best expert, group 1 the best two.
TEST_P(Gate, GroupScoresDifferByKind) {
  GateParams params = Small(4, 1);
  params.num_groups = 2;
  const std::vector<float> logits = {3, -5, 2, 2};
  EXPECT_EQ(Run(logits, params).ids, (std::vector<int32_t>{2}));
  params.group_score = GateParams::GroupScore::kMax;
  EXPECT_EQ(Run(logits, params).ids, (std::vector<int32_t>{0}));
}

TEST_P(Gate, BiasChoosesButDoesNotWeigh) {
  const std::vector<float> bias = {0, 100, 0};
  GateParams params = Small(3, 1);
  params.bias = bias.data();
  const Choice choice = Run({5, 0, 5}, params);
  EXPECT_EQ(choice.ids, (std::vector<int32_t>{1}));
  EXPECT_FLOAT_EQ(choice.weights[0], 0.5f);
}

TEST_P(Gate, ForcedIdsReplaceTheChoiceAndKeepTheWeights) {
  const std::vector<int32_t> forced = {0, 3};
  GateParams params = Small(4, 2);
  params.normalize = true;
  const Choice choice = Run({0, 9, 9, 0}, params, forced.data());
  EXPECT_EQ(choice.ids, forced);
  EXPECT_FLOAT_EQ(choice.weights[0], 0.5f);
  EXPECT_FLOAT_EQ(choice.weights[1], 0.5f);
}

TEST_P(Gate, NormalizesScoresThatVanish) {
  GateParams params = Small(2, 1);
  params.normalize = true;
  const Choice choice = Run({-200, -300}, params);
  EXPECT_EQ(choice.ids, (std::vector<int32_t>{0}));
  EXPECT_FALSE(std::isnan(choice.weights[0]));
}

TEST_P(Gate, NamesDistinctExpertsEvenForNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  GateParams params = Small(6, 3);
  params.num_groups = 3;
  params.num_kept_groups = 2;
  const Choice choice = Run({nan, nan, nan, 1, nan, nan}, params);
  EXPECT_LT(choice.ids[0], choice.ids[1]);
  EXPECT_LT(choice.ids[1], choice.ids[2]);
  EXPECT_GE(choice.ids[0], 0);
  EXPECT_LT(choice.ids[2], 6);
}

}  // namespace
}  // namespace orrery
