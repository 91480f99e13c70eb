#include "services/attention/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <string>

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> Logs(const std::vector<double>& probabilities) {
  std::vector<float> logs;
  for (const double p : probabilities) logs.push_back(static_cast<float>(std::log(p)));
  return logs;
}

// The ids that are drawn at one of many positions.
std::set<int32_t> IdsDrawn(const std::vector<float>& logprobs, SamplingParams params,
                           const std::vector<int32_t>& banned = {}) {
  if (params.temperature == 0.0f) params.temperature = 1.0f;
  Sampler sampler(params, 0, 0, nullptr);
  std::set<int32_t> drawn;
  for (int position = 0; position < 300; ++position) {
    drawn.insert(sampler.Sample({logprobs}, banned).id);
    sampler.Append(0);
  }
  return drawn;
}

int32_t Greedy(const std::vector<float>& logprobs, const SamplingParams& params,
               const std::vector<int32_t>& prompt_ids, const std::vector<int32_t>& answer_ids,
               float log_normalizer = 0.0f) {
  const PromptIds prompt(prompt_ids.begin(), prompt_ids.end());
  Sampler sampler(params, 0, static_cast<int>(prompt_ids.size()), &prompt);
  for (const int32_t id : answer_ids) sampler.Append(id);
  return sampler.Sample({logprobs, log_normalizer}, {}).id;
}

TEST(Sampler, GreedyTakesTheLowerIdOfATie) {
  EXPECT_EQ(Sampler({}, 0, 0, nullptr).Sample({{-3.0f, -1.0f, -2.0f, -1.0f}}, {}),
            (IdAndLogprob{1, -1.0f}));
}

TEST(Sampler, ReportsTheLogprobOfTheModel) {
  SamplingParams params;
  params.repetition_penalty = 2.0f;
  params.logit_bias = {{2, 50.0f}};
  const PromptIds prompt = {2};
  EXPECT_EQ(Sampler(params, 0, 1, &prompt).Sample({{-3.0f, -1.0f, -2.0f, -1.0f}, 1.5f}, {}),
            (IdAndLogprob{2, -2.0f}));
}

// Draws over many positions follow the tempered probabilities: p^(1/T), renormalised.
TEST(Sampler, DrawsFollowTheTemperedProbabilities) {
  const std::vector<float> logprobs = Logs({0.6, 0.3, 0.1});
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    double expected[3], total = 0;
    for (int i = 0; i < 3; ++i) total += expected[i] = std::exp(logprobs[i] / temperature);
    const int n = 20000;
    int counts[3] = {};
    Sampler sampler({.temperature = temperature, .seed = 3}, 0, 0, nullptr);
    for (int i = 0; i < n; ++i) {
      ++counts[sampler.Sample({logprobs}, {}).id];
      sampler.Append(0);
    }
    for (int i = 0; i < 3; ++i) {
      const double p = expected[i] / total;
      EXPECT_NEAR(counts[i] / double{n}, p, 5 * std::sqrt(p * (1 - p) / n)) << temperature;
    }
  }
}

// A filter leaves the proportions of what it keeps.
TEST(Sampler, DrawsBehindFiltersFollowTheRenormalisedProbabilities) {
  const std::vector<float> logprobs = Logs({0.1, 0.4, 0.05, 0.2, 0.25});
  const int n = 20000;
  int counts[5] = {};
  Sampler sampler({.temperature = 1.0f, .seed = 4, .top_k = 3, .top_p = 0.99f, .min_p = 0.3f}, 0, 0,
                  nullptr);
  for (int i = 0; i < n; ++i) {
    ++counts[sampler.Sample({logprobs}, {}).id];
    sampler.Append(0);
  }
  const double expected[5] = {0, 0.4 / 0.85, 0, 0.2 / 0.85, 0.25 / 0.85};
  for (int i = 0; i < 5; ++i) {
    EXPECT_NEAR(counts[i] / double{n}, expected[i],
                5 * std::sqrt(expected[i] * (1 - expected[i]) / n));
  }
}

TEST(Sampler, ADrawDependsOnSeedChoiceAndPositionOnly) {
  const std::vector<float> logprobs(1000, std::log(0.001f));
  const auto draw = [&](uint64_t seed, uint32_t choice, int num_prompt_tokens,
                        std::vector<int32_t> answer) {
    Sampler sampler({.temperature = 1.0f, .seed = seed}, choice, num_prompt_tokens, nullptr);
    for (const int32_t id : answer) sampler.Append(id);
    return sampler.Sample({logprobs}, {}).id;
  };
  const int32_t id = draw(5, 0, 3, {});
  EXPECT_EQ(draw(5, 0, 2, {9}), id) << "where the prompt ends does not matter";
  EXPECT_EQ(draw(5, 0, 0, {4, 4, 4}), id);
  EXPECT_NE(draw(6, 0, 3, {}), id);
  EXPECT_NE(draw(5, 1, 3, {}), id);
  EXPECT_NE(draw(5, 0, 4, {}), id);
}

TEST(Sampler, TopKOfATieKeepsTheLowerIds) {
  EXPECT_THAT(IdsDrawn(std::vector<float>(9, std::log(1 / 9.0f)), {.top_k = 3}),
              ElementsAre(0, 1, 2));
}

TEST(Sampler, TopPKeepsTheShortestListThatReachesIt) {
  const std::vector<float> logprobs = Logs({0.125, 0.25, 0.5, 0.125});
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.45f}), ElementsAre(2));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.55f}), ElementsAre(1, 2));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.8f}), ElementsAre(0, 1, 2)) << "of a tie the lower";
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.9f}), ElementsAre(0, 1, 2, 3));
}

TEST(Sampler, TopPOfEqualIdsIsExact) {
  const std::vector<float> logprobs(8, std::log(0.125f));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.25f}), ElementsAre(0, 1));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.26f}), ElementsAre(0, 1, 2));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.5f}), ElementsAre(0, 1, 2, 3));
}

TEST(Sampler, TopPIsAShareOfWhatTopKLeft) {
  const std::vector<float> logprobs = Logs({0.4, 0.3, 0.2, 0.1});
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.55f}), ElementsAre(0, 1));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_k = 2, .top_p = 0.55f}), ElementsAre(0));
}

TEST(Sampler, TopPAppliesBehindTheTemperature) {
  const std::vector<float> logprobs = Logs({0.6, 0.4});
  EXPECT_THAT(IdsDrawn(logprobs, {.temperature = 1.0f, .top_p = 0.7f}), ElementsAre(0, 1));
  EXPECT_THAT(IdsDrawn(logprobs, {.temperature = 0.25f, .top_p = 0.7f}), ElementsAre(0));
}

TEST(Sampler, MinPIsAShareOfTheMostLikely) {
  const std::vector<float> logprobs = Logs({0.1, 0.5, 0.15, 0.25});
  EXPECT_THAT(IdsDrawn(logprobs, {.min_p = 0.4f}), ElementsAre(1, 3));
  EXPECT_THAT(IdsDrawn(logprobs, {.min_p = 0.25f}), ElementsAre(1, 2, 3));
}

TEST(Sampler, TheMostLikelyIdAlwaysStays) {
  const std::vector<float> logprobs = Logs({0.3, 0.36, 0.34});
  EXPECT_THAT(IdsDrawn(logprobs, {.top_k = 1}), ElementsAre(1));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 1e-30f}), ElementsAre(1));
  EXPECT_THAT(IdsDrawn(logprobs, {.min_p = 1.0f}), ElementsAre(1));
}

TEST(Sampler, ATinyTemperatureIsGreedy) {
  const std::vector<float> logprobs = Logs({0.3, 0.36, 0.34});
  for (const float temperature : {1e-4f, 1e-30f, std::numeric_limits<float>::denorm_min()}) {
    EXPECT_THAT(IdsDrawn(logprobs, {.temperature = temperature}), ElementsAre(1));
    EXPECT_THAT(IdsDrawn(logprobs, {.temperature = temperature, .top_k = 2, .top_p = 0.9f}),
                ElementsAre(1));
  }
}

// Scores are so far below zero that the noise is lost in rounding, and all ids tie.
TEST(Sampler, ADrawOfATieTakesTheLowerIdInWhateverOrderFiltersLeaveThem) {
  const std::vector<float> logprobs(5000, std::log(1 / 5000.0f));
  for (const SamplingParams& params :
       {SamplingParams{.temperature = 1e-30f}, SamplingParams{.temperature = 1e-30f, .top_k = 100},
        SamplingParams{.temperature = 1e-30f, .top_p = 0.7f},
        SamplingParams{.temperature = 1e-30f, .min_p = 0.5f}}) {
    EXPECT_EQ(Sampler(params, 0, 0, nullptr).Sample({logprobs}, {}).id, 0);
  }
}

TEST(Sampler, RepetitionPenaltyCountsPromptAndAnswer) {
  SamplingParams params;
  params.repetition_penalty = 1.5f;
  const std::vector<float> logprobs = {-1.0f, -1.2f, -1.4f};
  EXPECT_EQ(Greedy(logprobs, params, {}, {}), 0);
  EXPECT_EQ(Greedy(logprobs, params, {0}, {}), 1);
  EXPECT_EQ(Greedy(logprobs, params, {0}, {1}), 2);
  EXPECT_EQ(Greedy(logprobs, params, {0, 2, 2}, {1, 1}), 0) << "it counts once";
}

// A token that the model is sure of has a log-probability near 0, which no factor changes; its
// logit is what the penalty acts on.
TEST(Sampler, RepetitionPenaltyLowersATokenThatTheModelIsSureOf) {
  SamplingParams params;
  params.repetition_penalty = 1.5f;
  const std::vector<float> logprobs = {-1e-4f, -9.2f};  // logits 20 and 10.8
  EXPECT_EQ(Greedy(logprobs, params, {0}, {}), 0);
  EXPECT_EQ(Greedy(logprobs, params, {0}, {}, /*log_normalizer=*/20.0f), 0) << "13.3";
  params.repetition_penalty = 2.0f;
  EXPECT_EQ(Greedy(logprobs, params, {0}, {}, /*log_normalizer=*/20.0f), 1) << "10";
  EXPECT_EQ(Greedy(logprobs, params, {}, {0}, /*log_normalizer=*/20.0f), 1);
}

// The formula as it is written down for logits, in f64, on rows as a head leaves them.
TEST(Sampler, RepetitionPenaltyOfLogprobsIsThatOfLogits) {
  std::mt19937 random(6);
  std::normal_distribution<double> normal(2.0, 4.0);
  for (int trial = 0; trial < 2000; ++trial) {
    const int num_ids = 2 + static_cast<int>(random() % 40);
    std::vector<float> logits(num_ids);
    for (float& logit : logits) logit = static_cast<float>(normal(random));
    double total = 0.0;
    for (const float logit : logits) total += std::exp(double{logit});
    std::vector<float> logprobs;
    for (const float logit : logits) {
      logprobs.push_back(static_cast<float>(logit - std::log(total)));
    }
    SamplingParams params;
    params.repetition_penalty = 0.5f + 0.1f * static_cast<float>(random() % 20);
    const std::vector<int32_t> prompt = {static_cast<int32_t>(random() % num_ids), 0};
    const std::vector<int32_t> answer = {static_cast<int32_t>(random() % num_ids)};
    const std::set<int32_t> seen = {prompt[0], prompt[1], answer[0]};
    std::vector<double> penalized(logits.begin(), logits.end());
    for (const int32_t id : seen) {
      double& logit = penalized[id];
      logit = logit < 0 ? logit * params.repetition_penalty : logit / params.repetition_penalty;
    }
    std::vector<double> sorted = penalized;
    std::sort(sorted.rbegin(), sorted.rend());
    if (sorted[0] - sorted[1] < 1e-4) continue;  // closer than f32 logits tell
    const int32_t best = static_cast<int32_t>(std::max_element(penalized.begin(), penalized.end()) -
                                              penalized.begin());
    EXPECT_EQ(Greedy(logprobs, params, prompt, answer, logits[0] - logprobs[0]), best) << trial;
  }
}

TEST(Sampler, PresencePenaltyCountsOnceAndInTheAnswerOnly) {
  SamplingParams params;
  params.presence_penalty = 0.5f;
  const std::vector<float> logprobs = {-1.0f, -1.2f, -1.6f};
  EXPECT_EQ(Greedy(logprobs, params, {0}, {}), 0);
  EXPECT_EQ(Greedy(logprobs, params, {}, {0}), 1);
  EXPECT_EQ(Greedy(logprobs, params, {}, {0, 0, 0, 1}), 0);
}

TEST(Sampler, FrequencyPenaltyCountsEveryTimeAndInTheAnswerOnly) {
  SamplingParams params;
  params.frequency_penalty = 0.15f;
  const std::vector<float> logprobs = {-1.0f, -1.2f, -1.6f};
  EXPECT_EQ(Greedy(logprobs, params, {0, 0}, {}), 0);
  EXPECT_EQ(Greedy(logprobs, params, {}, {0}), 0);
  EXPECT_EQ(Greedy(logprobs, params, {}, {0, 0}), 1);
}

TEST(Sampler, ABiasOfMinus100Bans) {
  SamplingParams params;
  params.logit_bias = {{1, -100.0f}};
  EXPECT_EQ(Greedy({-500.0f, 0.0f}, params, {}, {}), 0);
  params.logit_bias = {{1, -99.0f}};
  EXPECT_EQ(Greedy({-500.0f, 0.0f}, params, {}, {}), 1);
}

TEST(Sampler, ABiasAddsToTheLogit) {
  SamplingParams params;
  params.logit_bias = {{0, -0.5f}, {2, 3.0f}};
  EXPECT_EQ(Greedy({-1.0f, -1.2f, -4.3f}, params, {}, {}), 1);
  params.logit_bias[1].second = 3.2f;
  EXPECT_EQ(Greedy({-1.0f, -1.2f, -4.3f}, params, {}, {}), 2);
}

TEST(Sampler, BannedIdsAreNeverDrawn) {
  const std::vector<float> logprobs = Logs({0.05, 0.9, 0.05});
  EXPECT_EQ(Sampler({}, 0, 0, nullptr).Sample({logprobs}, {1}).id, 0);
  EXPECT_THAT(IdsDrawn(logprobs, {}, {1}), ElementsAre(0, 2));
  EXPECT_THAT(IdsDrawn(logprobs, {.top_k = 1}, {1}), ElementsAre(0)) << "banned before top_k";
  EXPECT_THAT(IdsDrawn(logprobs, {.top_p = 0.9f}, {1, 99, -1}), ElementsAre(0, 2));
}

TEST(Sampler, TakesTheMostLikelyIdWhenAllAreBanned) {
  const std::vector<float> logprobs = Logs({0.2, 0.5, 0.3});
  SamplingParams params;
  params.logit_bias = {{0, -100.0f}, {2, -100.0f}};
  for (const float temperature : {0.0f, 1.0f}) {
    for (const int top_k : {0, 2}) {
      params.temperature = temperature;
      params.top_k = top_k;
      EXPECT_EQ(Sampler(params, 0, 0, nullptr).Sample({logprobs}, {1}).id, 1);
    }
  }
}

// A broken model must not take the process down.
TEST(Sampler, WhatIsNoNumberIsNeverDrawn) {
  for (const float temperature : {0.0f, 1.0f}) {
    for (const float top_p : {1.0f, 0.5f}) {
      const SamplingParams params = {.temperature = temperature, .top_p = top_p};
      EXPECT_EQ(Sampler(params, 0, 0, nullptr).Sample({{kNan, -1.0f, kNan, -kInf}}, {}).id, 1);
      EXPECT_EQ(Sampler(params, 0, 0, nullptr).Sample({{kNan, kNan}}, {}).id, 0);
      EXPECT_EQ(Sampler(params, 0, 0, nullptr).Sample({{-kInf, -kInf}}, {}).id, 0);
      EXPECT_LT(Sampler(params, 0, 0, nullptr).Sample({{-1.0f, kInf, kNan}}, {}).id, 2);
    }
  }
}

TEST(CheckSamplingParams, TakesTheNeutralValuesAndTheLimits) {
  EXPECT_TRUE(CheckSamplingParams({}, 1).ok());
  SamplingParams params = {.temperature = 2.0f,
                           .top_k = std::numeric_limits<int>::max(),
                           .top_p = 1e-9f,
                           .min_p = 1.0f,
                           .repetition_penalty = 10.0f,
                           .presence_penalty = -2.0f,
                           .frequency_penalty = 2.0f};
  params.logit_bias = {{0, -100.0f}, {9, 100.0f}};
  EXPECT_TRUE(CheckSamplingParams(params, 10).ok());
  EXPECT_EQ(Sampler(params, 0, 0, nullptr).Sample({std::vector<float>(10, -2.3f)}, {}).id, 9);
}

TEST(CheckSamplingParams, NamesFieldValueAndLimit) {
  const auto message = [](const SamplingParams& params) {
    const absl::Status status = CheckSamplingParams(params, 100);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(message({.temperature = 2.5f}), "temperature is 2.5, it must be 0 to 2");
  EXPECT_EQ(message({.temperature = -1.0f}), "temperature is -1, it must be 0 to 2");
  EXPECT_EQ(message({.top_k = -1}), "top_k is -1, it must be at least 0");
  EXPECT_EQ(message({.top_p = 0.0f}), "top_p is 0, it must be above 0 and at most 1");
  EXPECT_EQ(message({.top_p = 1.5f}), "top_p is 1.5, it must be above 0 and at most 1");
  EXPECT_EQ(message({.min_p = 2.0f}), "min_p is 2, it must be 0 to 1");
  EXPECT_EQ(message({.repetition_penalty = 0.0f}),
            "repetition_penalty is 0, it must be above 0 and at most 10");
  EXPECT_EQ(message({.presence_penalty = 3.0f}), "presence_penalty is 3, it must be -2 to 2");
  EXPECT_EQ(message({.frequency_penalty = -3.0f}), "frequency_penalty is -3, it must be -2 to 2");

  SamplingParams biased;
  biased.logit_bias = {{3, 101.0f}};
  EXPECT_EQ(message(biased), "logit_bias of id 3 is 101, it must be -100 to 100");
  biased.logit_bias = {{100, 1.0f}};
  EXPECT_EQ(message(biased), "logit_bias: id 100 is outside the vocabulary 0..99");
  biased.logit_bias = {{-1, 1.0f}};
  EXPECT_EQ(message(biased), "logit_bias: id -1 is outside the vocabulary 0..99");
  biased.logit_bias = {{5, 1.0f}, {5, 1.0f}};
  EXPECT_THAT(message(biased), HasSubstr("id 5 stands behind id 5, ids must ascend"));
  biased.logit_bias.assign(kMaxLogitBiasIds + 1, {0, 0.0f});
  EXPECT_EQ(message(biased), "logit_bias has 1025 ids, the limit is 1024");
}

TEST(CheckSamplingParams, RefusesWhatIsNoNumber) {
  for (const float bad : {kNan, kInf, -kInf}) {
    for (float SamplingParams::*field :
         {&SamplingParams::temperature, &SamplingParams::top_p, &SamplingParams::min_p,
          &SamplingParams::repetition_penalty, &SamplingParams::presence_penalty,
          &SamplingParams::frequency_penalty}) {
      SamplingParams params;
      params.*field = bad;
      EXPECT_EQ(CheckSamplingParams(params, 10).code(), absl::StatusCode::kInvalidArgument) << bad;
    }
    SamplingParams biased;
    biased.logit_bias = {{0, bad}};
    EXPECT_FALSE(CheckSamplingParams(biased, 10).ok()) << bad;
  }
}

TEST(TopLogprobs, AreSortedAndTiesGoToTheLowerId) {
  const std::vector<IdAndLogprob> top = TopLogprobs({-2.0f, -1.0f, -2.0f, -0.5f}, 3);
  EXPECT_EQ(top, (std::vector<IdAndLogprob>{{3, -0.5f}, {1, -1.0f}, {0, -2.0f}}));
  EXPECT_EQ(TopLogprobs({-1.0f}, 5).size(), 1u);
  EXPECT_TRUE(TopLogprobs({-1.0f}, 0).empty());
  EXPECT_TRUE(TopLogprobs({}, 3).empty());
}

}  // namespace
}  // namespace orrery
