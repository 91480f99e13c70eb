#include "services/attention/shard_health.h"

#include <random>

#include "gtest/gtest.h"

namespace orrery {
namespace {

constexpr int kSize = 8;  // entries
constexpr absl::Duration kMin = absl::Milliseconds(50);
constexpr absl::Duration kMax = absl::Seconds(2);
const absl::Time kStart = absl::FromUnixSeconds(1000);

class ShardHealthTest : public ::testing::Test {
 protected:
  void Answer(int num_answers, absl::Duration after, int peer = 0) {
    for (int i = 0; i < num_answers; ++i) health_.OnAnswered(peer, kSize, after);
  }
  ShardHealth health_{2, {.min_patience = kMin, .max_patience = kMax, .max_saved_entries = 100}};
};

TEST_F(ShardHealthTest, WaitsLongestForAShardThatNeverAnswered) {
  EXPECT_EQ(health_.Patience(0, kSize), kMax);
  health_.OnLate(0, kSize, kMax, kStart);
  Answer(1, absl::Milliseconds(30));
  EXPECT_EQ(health_.Patience(0, kSize), absl::Milliseconds(90));  // three times its one answer
}

TEST_F(ShardHealthTest, PatienceStaysWithinItsLimits) {
  Answer(1000, absl::Microseconds(200));
  EXPECT_EQ(health_.Patience(0, kSize), kMin);
  Answer(1000, absl::Seconds(5));
  EXPECT_EQ(health_.Patience(0, kSize), kMax);
}

TEST_F(ShardHealthTest, PeersAndSizesHaveReplyTimesOfTheirOwn) {
  Answer(10, absl::Milliseconds(100));
  EXPECT_EQ(health_.Patience(0, kSize + 1), kMax);
  EXPECT_EQ(health_.Patience(1, kSize), kMax);
  EXPECT_LT(health_.Patience(0, kSize), kMax);
}

TEST_F(ShardHealthTest, GuessesSizesThatAShardHasNotAnsweredFromThoseThatItHas) {
  health_.OnAnswered(0, 512, absl::Milliseconds(40));
  EXPECT_EQ(health_.Patience(0, 1), absl::Milliseconds(120));
  health_.OnAnswered(1, 8, absl::Milliseconds(5));
  EXPECT_EQ(health_.Patience(1, 64), 8 * absl::Milliseconds(15));
  EXPECT_EQ(health_.Patience(1, 512), 64 * absl::Milliseconds(15));
  EXPECT_EQ(health_.Patience(1, 513), kMax);
  health_.OnAnswered(1, 64, absl::Milliseconds(30));
  EXPECT_EQ(health_.Patience(1, 64), absl::Milliseconds(90));
  EXPECT_EQ(health_.Patience(1, 512), 8 * absl::Milliseconds(90));
}

TEST_F(ShardHealthTest, FollowsThe95thPercentile) {
  std::mt19937 random(1);
  double sum = 0;
  for (int i = 0; i < 20'000; ++i) {
    // Uniform from 100 to 200 ms: the percentile is 195.
    Answer(1, absl::Milliseconds(100) + absl::Microseconds(random() % 100'000));
    if (i >= 10'000) sum += absl::ToDoubleMilliseconds(health_.Patience(0, kSize)) / 3;
  }
  EXPECT_NEAR(sum / 10'000, 195, 8);
}

TEST_F(ShardHealthTest, GetsUsedToAShardThatHasBecomeSlowAndBack) {
  Answer(100, absl::Milliseconds(100));
  Answer(9, absl::Milliseconds(500));
  EXPECT_GT(health_.Patience(0, kSize), absl::Milliseconds(500));
  Answer(600, absl::Milliseconds(100));
  EXPECT_LT(health_.Patience(0, kSize), absl::Milliseconds(350));
}

TEST_F(ShardHealthTest, TrustsALateShardAgainAfterAnswersInARow) {
  EXPECT_TRUE(health_.is_trusted(0));
  health_.OnLate(0, kSize, kMin, kStart);
  EXPECT_FALSE(health_.is_trusted(0));
  EXPECT_TRUE(health_.is_trusted(1));
  Answer(ShardHealth::kAnswersToTrust - 1, kMin);
  health_.OnLate(0, kSize, kMin, kStart);
  Answer(ShardHealth::kAnswersToTrust - 1, kMin);
  EXPECT_FALSE(health_.is_trusted(0));
  Answer(1, kMin);
  EXPECT_TRUE(health_.is_trusted(0));
}

TEST_F(ShardHealthTest, ProbesASparedShardLessAndLessOftenAndAtOnceWhenItAnswers) {
  EXPECT_FALSE(health_.IsProbeDue(0, kStart));  // trusted: every row is one
  health_.OnLate(0, kSize, kMin, kStart);
  absl::Time now = kStart;
  absl::Duration pause;
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(health_.IsProbeDue(0, now));
    const absl::Time before = now;
    while (!health_.IsProbeDue(0, now)) now += absl::Milliseconds(100);
    EXPECT_GE(now - before, pause);
    pause = now - before;
    EXPECT_LE(pause, absl::Seconds(5));
    health_.OnProbeSent(0, now);
  }
  EXPECT_EQ(pause, absl::Seconds(5));
  Answer(1, kMin);
  EXPECT_TRUE(health_.IsProbeDue(0, now));
}

TEST_F(ShardHealthTest, HedgesOneInTwentyOnceWhatWasSavedIsSpent) {
  EXPECT_TRUE(health_.MayHedge(100));
  EXPECT_FALSE(health_.MayHedge(1));
  health_.OnAsked(19);
  EXPECT_FALSE(health_.MayHedge(1));
  health_.OnAsked(2);
  EXPECT_TRUE(health_.MayHedge(1));
  EXPECT_FALSE(health_.MayHedge(1));
  health_.OnAsked(1'000'000);
  EXPECT_FALSE(health_.MayHedge(101));
  EXPECT_TRUE(health_.MayHedge(100));
}

}  // namespace
}  // namespace orrery
