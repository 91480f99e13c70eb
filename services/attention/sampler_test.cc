#include "services/attention/sampler.h"

#include <gtest/gtest.h>

#include <cmath>

namespace orrery {
namespace {

TEST(SampleToken, GreedyTakesTheLowerIdOfATie) {
  EXPECT_EQ(SampleToken({-3.0f, -1.0f, -2.0f, -1.0f}, {}, 0), (IdAndLogprob{1, -1.0f}));
}

TEST(SampleToken, TheSameKeyGivesTheSameDraw) {
  const std::vector<float> logprobs(50, std::log(0.02f));
  const SamplingParams params = {.temperature = 1.0f, .seed = 5};
  EXPECT_EQ(SampleToken(logprobs, params, 9), SampleToken(logprobs, params, 9));
  int num_different = 0;
  for (int position = 0; position < 20; ++position) {
    num_different +=
        SampleToken(logprobs, params, position).id != SampleToken(logprobs, params, 9).id;
  }
  EXPECT_GT(num_different, 10);
}

// Draws over many positions follow the tempered probabilities: p^(1/T), renormalised.
TEST(SampleToken, DrawsFollowTheTemperedProbabilities) {
  const std::vector<float> logprobs = {std::log(0.6f), std::log(0.3f), std::log(0.1f)};
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    double expected[3], total = 0;
    for (int i = 0; i < 3; ++i) total += expected[i] = std::exp(logprobs[i] / temperature);
    const int n = 20000;
    int counts[3] = {};
    for (int i = 0; i < n; ++i) {
      ++counts[SampleToken(logprobs, {.temperature = temperature, .seed = 3}, i).id];
    }
    for (int i = 0; i < 3; ++i) {
      const double p = expected[i] / total;
      EXPECT_NEAR(counts[i] / double{n}, p, 5 * std::sqrt(p * (1 - p) / n)) << temperature;
    }
  }
}

TEST(TopLogprobs, AreSortedAndTiesGoToTheLowerId) {
  const std::vector<IdAndLogprob> top = TopLogprobs({-2.0f, -1.0f, -2.0f, -0.5f}, 3);
  EXPECT_EQ(top, (std::vector<IdAndLogprob>{{3, -0.5f}, {1, -1.0f}, {0, -2.0f}}));
  EXPECT_EQ(TopLogprobs({-1.0f}, 5).size(), 1u);
  EXPECT_TRUE(TopLogprobs({-1.0f}, 0).empty());
}

}  // namespace
}  // namespace orrery
