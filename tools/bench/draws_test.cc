#include "tools/bench/draws.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/algorithm/container.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAreArray;
using ::testing::Ne;

class LoadDrawsTest : public ::testing::Test {
 protected:
  LoadDrawsTest() {
    load_.rate = 20.0;
    load_.prompt_tokens = {.min = 8, .max = 24};
    load_.output_tokens = {.min = 1, .max = 4};
    for (int id = 100; id < 400; ++id) pool_.push_back(id);
  }
  LoadDraws Draws(uint64_t seed, uint32_t stream = 0) const {
    return LoadDraws(&load_, {.seed = seed, .stream = stream}, &pool_);
  }

  Load load_;
  std::vector<int32_t> pool_;
};

// Of an exponential distribution mean and standard deviation are both 1 / rate, and a share of 1/e
// exceeds the mean; with 20,000 draws, five standard errors are 5 / sqrt(20000) = 3.5 %.
TEST_F(LoadDrawsTest, PoissonGapsHaveTheRatesDistribution) {
  constexpr int kNumDraws = 20000;
  const LoadDraws draws = Draws(1);
  double sum = 0.0, sum_of_squares = 0.0;
  int num_above = 0;
  for (int i = 0; i < kNumDraws; ++i) {
    const double gap = absl::ToDoubleSeconds(draws.Gap(i)) * load_.rate;
    sum += gap;
    sum_of_squares += gap * gap;
    num_above += gap > 1.0;
  }
  const double mean = sum / kNumDraws;
  EXPECT_NEAR(mean, 1.0, 0.035);
  EXPECT_NEAR(std::sqrt(sum_of_squares / kNumDraws - mean * mean), 1.0, 0.07);
  EXPECT_NEAR(num_above / static_cast<double>(kNumDraws), std::exp(-1.0), 0.02);
}

TEST_F(LoadDrawsTest, RegularGapsAreAllTheSame) {
  load_.arrivals = Arrivals::kRegular;
  EXPECT_EQ(Draws(1).Gap(0), absl::Milliseconds(50));
  EXPECT_EQ(Draws(2).Gap(77), absl::Milliseconds(50));
}

TEST_F(LoadDrawsTest, TheSameSeedGivesTheSameLoad) {
  const RequestShape shape = Draws(5).Shape(3);
  EXPECT_EQ(Draws(5).Gap(3), Draws(5).Gap(3));
  EXPECT_THAT(Draws(5).Shape(3).prompt, ElementsAreArray(shape.prompt));
  EXPECT_EQ(Draws(5).Shape(3).seed, shape.seed);
  EXPECT_EQ(Draws(5).Shape(3).output_tokens, shape.output_tokens);
}

TEST_F(LoadDrawsTest, SeedStreamAndRequestEachGiveAnother) {
  const RequestShape shape = Draws(5).Shape(3);
  EXPECT_THAT(Draws(6).Shape(3).prompt, Ne(shape.prompt));
  EXPECT_THAT(Draws(5, 1).Shape(3).prompt, Ne(shape.prompt));
  EXPECT_THAT(Draws(5).Shape(4).prompt, Ne(shape.prompt));
  EXPECT_NE(Draws(5).Shape(4).seed, shape.seed);
  EXPECT_NE(Draws(5).Gap(4), Draws(5).Gap(3));
}

TEST_F(LoadDrawsTest, LengthsFillTheirRangesAndIdsComeFromThePool) {
  std::set<size_t> prompt_lengths;
  std::set<int> output_lengths;
  for (int i = 0; i < 1000; ++i) {
    const RequestShape shape = Draws(9).Shape(i);
    prompt_lengths.insert(shape.prompt.size());
    output_lengths.insert(shape.output_tokens);
    for (const int32_t id : shape.prompt) ASSERT_TRUE(absl::c_linear_search(pool_, id)) << id;
    EXPECT_EQ(shape.disconnect_after, absl::ZeroDuration());
  }
  EXPECT_EQ(prompt_lengths.size(), 17);
  EXPECT_EQ(*prompt_lengths.begin(), 8);
  EXPECT_EQ(*prompt_lengths.rbegin(), 24);
  EXPECT_EQ(output_lengths, std::set<int>({1, 2, 3, 4}));
}

TEST_F(LoadDrawsTest, EveryPromptBeginsWithOneOfTheCommonPrefixes) {
  load_.prefix_tokens = 6;
  load_.num_prefixes = 3;
  std::set<std::vector<int32_t>> prefixes, rests;
  for (const uint32_t stream : {0u, 1u}) {
    for (int i = 0; i < 100; ++i) {
      const std::vector<int32_t> prompt = Draws(5, stream).Shape(i).prompt;
      prefixes.insert({prompt.begin(), prompt.begin() + 6});
      rests.insert({prompt.begin() + 6, prompt.end()});
    }
  }
  EXPECT_EQ(prefixes.size(), 3);
  EXPECT_TRUE(prefixes.contains(PrefixIds(5, 2, 6, pool_)));
  EXPECT_EQ(rests.size(), 200);
}

TEST_F(LoadDrawsTest, ClientsThatLeaveDoSoWithinTheTime) {
  load_.disconnect_within = absl::Seconds(2);
  absl::Duration first = absl::InfiniteDuration(), last;
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration after = Draws(5).Shape(i).disconnect_after;
    first = std::min(first, after);
    last = std::max(last, after);
  }
  EXPECT_GT(first, absl::ZeroDuration());
  EXPECT_LT(first, absl::Milliseconds(100));
  EXPECT_GT(last, absl::Milliseconds(1900));
  EXPECT_LT(last, absl::Seconds(2));
}

TEST(RandomText, HasTheNumberOfWordsAndNothingButLettersAndDigits) {
  const std::string text = RandomText(3, 50);
  EXPECT_EQ(absl::c_count(text, ' '), 49);
  for (const char c : text) {
    EXPECT_TRUE(c == ' ' || std::isalnum(static_cast<unsigned char>(c)));
  }
  EXPECT_EQ(text, RandomText(3, 50));
  EXPECT_NE(text, RandomText(4, 50));
}

}  // namespace
}  // namespace orrery
