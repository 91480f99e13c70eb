#include "services/attention/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include "base/rng.h"

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

// Log-probabilities of `num_ids` ids; the larger `spread`, the more peaked.
std::vector<float> RandomLogprobs(int num_ids, double spread, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<double> logits(num_ids);
  double total = 0.0;
  for (double& logit : logits) total += std::exp(logit = spread * normal(random));
  std::vector<float> logprobs;
  for (const double logit : logits) {
    logprobs.push_back(static_cast<float>(logit - std::log(total)));
  }
  return logprobs;
}

// --- An oracle that is obviously right: dense lists, one full sort, the C library's exp. ---

struct Situation {
  SamplingParams params;
  uint32_t choice = 0;
  std::vector<int32_t> prompt_ids;
  PromptIds prompt;  // the same, each once
  std::vector<int32_t> answer_ids;
  std::vector<int32_t> banned;
  float log_normalizer = 0.0f;
};

std::vector<double> OracleScores(const std::vector<float>& logprobs, const Situation& s) {
  std::vector<double> scores(logprobs.begin(), logprobs.end());
  for (int32_t id = 0; id < static_cast<int32_t>(scores.size()); ++id) {
    const auto in_prompt = std::count(s.prompt_ids.begin(), s.prompt_ids.end(), id);
    const auto in_answer = std::count(s.answer_ids.begin(), s.answer_ids.end(), id);
    if (in_prompt + in_answer > 0 && s.params.repetition_penalty != 1.0f) {
      double logit = scores[id] + s.log_normalizer;
      logit = logit > 0 ? logit / s.params.repetition_penalty : logit * s.params.repetition_penalty;
      scores[id] = logit - s.log_normalizer;
    }
    if (in_answer > 0) scores[id] -= s.params.presence_penalty;
    scores[id] -= double{s.params.frequency_penalty} * in_answer;
    for (const auto& [biased, bias] : s.params.logit_bias) {
      if (biased == id) scores[id] += bias <= -100.0f ? -kInf : bias;
    }
    if (std::count(s.banned.begin(), s.banned.end(), id) > 0) scores[id] = -kInf;
  }
  return scores;
}

int32_t OracleSample(const std::vector<float>& logprobs, const Situation& s) {
  const std::vector<double> scores = OracleScores(logprobs, s);
  std::vector<std::pair<double, int32_t>> sorted;  // (-score / temperature, id)
  const double temperature = s.params.temperature == 0.0f ? 1.0 : s.params.temperature;
  for (size_t id = 0; id < scores.size(); ++id) {
    if (scores[id] > -kInf) sorted.emplace_back(-scores[id] / temperature, id);
  }
  std::sort(sorted.begin(), sorted.end());
  if (sorted.empty()) {
    return static_cast<int32_t>(std::max_element(logprobs.begin(), logprobs.end()) -
                                logprobs.begin());
  }
  if (s.params.temperature == 0.0f) return sorted[0].second;
  if (s.params.top_k > 0) sorted.resize(std::min<size_t>(sorted.size(), s.params.top_k));
  const auto share = [best = sorted[0].first](double score) { return std::exp(best - score); };
  double total = 0.0, sum = 0.0;
  for (const auto& [score, id] : sorted) total += share(score);
  size_t num_kept = 0;
  while (num_kept < sorted.size() && (s.params.top_p == 1.0f || sum < s.params.top_p * total)) {
    sum += share(sorted[num_kept++].first);
  }
  sorted.resize(num_kept);
  double best = -kInf;
  int32_t best_id = -1;
  for (const auto& [score, id] : sorted) {
    if (share(score) < s.params.min_p) continue;
    const double value =
        -score +
        GumbelDraw({.seed = s.params.seed,
                    .choice = s.choice,
                    .position = static_cast<uint32_t>(s.prompt_ids.size() + s.answer_ids.size()),
                    .draw = static_cast<uint32_t>(id)});
    if (value > best || (value == best && id < best_id)) {
      best = value;
      best_id = id;
    }
  }
  return best_id;
}

// Each setting is neutral half of the time.
Situation RandomSituation(int num_ids, std::mt19937& random) {
  const auto maybe = [&] { return random() % 2 == 0; };
  const auto uniform = [&](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random);
  };
  const auto ids = [&](size_t max_count) {
    std::vector<int32_t> ids(random() % (max_count + 1));
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % num_ids);
    return ids;
  };
  Situation s;
  s.choice = random() % 3;
  s.prompt_ids = ids(20);
  s.prompt = PromptIds(s.prompt_ids.begin(), s.prompt_ids.end());
  if (maybe()) s.log_normalizer = uniform(-5.0f, 40.0f);
  s.answer_ids = ids(20);
  if (maybe()) s.banned = ids(4);
  s.params.seed = random();
  if (random() % 8 != 0) s.params.temperature = uniform(0.05f, 2.0f);
  if (maybe()) s.params.top_k = static_cast<int>(random() % (num_ids + 3));
  if (maybe()) s.params.top_p = uniform(0.01f, 0.9999f);
  if (maybe()) s.params.min_p = uniform(0.0f, maybe() ? 1.0f : 0.01f);
  if (maybe()) s.params.repetition_penalty = uniform(0.5f, 2.0f);
  if (maybe()) s.params.presence_penalty = uniform(-2.0f, 2.0f);
  if (maybe()) s.params.frequency_penalty = uniform(-2.0f, 2.0f);
  if (maybe()) {
    const std::vector<int32_t> list = ids(8);
    for (const int32_t id : std::set<int32_t>(list.begin(), list.end())) {
      s.params.logit_bias.emplace_back(id, maybe() ? -100.0f : uniform(-100.0f, 100.0f));
    }
  }
  return s;
}

Sampler SamplerFor(const Situation& s) {
  Sampler sampler(s.params, s.choice, static_cast<int>(s.prompt_ids.size()), &s.prompt);
  for (const int32_t id : s.answer_ids) sampler.Append(id);
  return sampler;
}

TEST(Sampler, EqualsTheOracleOnRandomSituations) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 20000; ++trial) {
    const int num_ids = 1 + static_cast<int>(random() % (trial % 2 == 0 ? 8 : 120));
    std::vector<float> logprobs = RandomLogprobs(num_ids, 0.1 + random() % 6, random);
    if (trial % 3 == 0) {  // many ties
      for (float& logprob : logprobs) logprob = std::round(logprob);
    }
    if (trial % 5 == 0) logprobs[random() % num_ids] = -kInf;
    const Situation s = RandomSituation(num_ids, random);
    ASSERT_TRUE(CheckSamplingParams(s.params, num_ids).ok());
    const int32_t expected = OracleSample(logprobs, s);
    EXPECT_EQ(SamplerFor(s).Sample({logprobs, s.log_normalizer}, s.banned),
              (IdAndLogprob{expected, logprobs[expected]}))
        << "trial " << trial;
  }
}

// Here the shortcuts count: selection instead of sorting, ids that are skipped before their noise
// is known.
TEST(Sampler, EqualsTheOracleOnALargeVocabulary) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 150; ++trial) {
    const int num_ids = 3000 + static_cast<int>(random() % 10000);
    const std::vector<float> logprobs = RandomLogprobs(num_ids, trial % 5, random);
    Situation s = RandomSituation(num_ids, random);
    if (trial % 2 == 0) s.params.top_k = static_cast<int>(random() % 100);
    EXPECT_EQ(SamplerFor(s).Sample({logprobs, s.log_normalizer}, s.banned).id,
              OracleSample(logprobs, s))
        << "trial " << trial;
  }
}

// --- The parts, one by one ---

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

TEST(Sampler, RemoveLastUndoesAppend) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 300; ++trial) {
    const int num_ids = 6;
    const std::vector<float> logprobs = RandomLogprobs(num_ids, 1.0, random);
    const Situation s = RandomSituation(num_ids, random);
    Sampler sampler = SamplerFor(s);
    const int num_drafts = static_cast<int>(random() % 5);
    for (int i = 0; i < num_drafts; ++i) sampler.Append(static_cast<int32_t>(random() % num_ids));
    for (int i = 0; i < num_drafts; ++i) sampler.RemoveLast();
    EXPECT_EQ(sampler.position(), s.prompt_ids.size() + s.answer_ids.size());
    EXPECT_EQ(sampler.Sample({logprobs, s.log_normalizer}, s.banned),
              SamplerFor(s).Sample({logprobs, s.log_normalizer}, s.banned));
  }
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

TEST(TopLogprobs, EqualTheFrontOfASortedList) {
  std::mt19937 random(4);
  for (int trial = 0; trial < 300; ++trial) {
    const int num_ids = 1 + static_cast<int>(random() % 60);
    std::vector<float> logprobs = RandomLogprobs(num_ids, 2.0, random);
    if (trial % 2 == 0) {
      for (float& logprob : logprobs) logprob = std::round(logprob);
    }
    std::vector<IdAndLogprob> sorted;
    for (int id = 0; id < num_ids; ++id) sorted.push_back({id, logprobs[id]});
    std::stable_sort(
        sorted.begin(), sorted.end(),
        [](const IdAndLogprob& a, const IdAndLogprob& b) { return a.logprob > b.logprob; });
    sorted.resize(std::min(num_ids, 20));
    EXPECT_EQ(TopLogprobs(logprobs, 20), sorted);
  }
}

}  // namespace
}  // namespace orrery
