// The sampler against an oracle that is obviously right, on random situations. sampler_test.cc has its
// parts, one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "base/rng.h"
#include "services/attention/sampler.h"

namespace orrery {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

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
