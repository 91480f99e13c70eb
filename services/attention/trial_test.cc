#include "services/attention/trial.h"

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const absl::Time kNow = absl::UnixEpoch();

std::vector<std::byte> Result(int value) { return {std::byte{1}, static_cast<std::byte>(value)}; }

Trial::Case Differ(int first, int second) {
  Trial::Case of;
  of.first = {.shard = first, .result = Result(7)};
  of.second = {.shard = second, .result = Result(8)};
  return of;
}

std::vector<int> Convicted(const Trial& trial) {
  std::vector<int> shards;
  for (const Conviction& conviction : trial.convictions()) shards.push_back(conviction.shard);
  return shards;
}

// Every shard gives the answer that stands here, each time; the others are silent.
void AnswerAlways(Trial& trial, const std::map<int, int>& answers) {
  while (!trial.is_over()) {
    const std::vector<int> asks = trial.Next(kNow);
    ASSERT_FALSE(asks.empty());
    for (const int shard : asks) {
      const auto answer = answers.find(shard);
      if (answer == answers.end()) {
        trial.OnSilent(shard);
      } else {
        trial.OnAnswer(shard, Result(answer->second));
      }
    }
  }
}

TEST(Trial, AShardThatDiffersFromItselfIsConvictedAtOnce) {
  const Trial trial(Differ(2, 2));
  EXPECT_TRUE(trial.is_over());
  EXPECT_THAT(Convicted(trial), ElementsAre(2));
  EXPECT_THAT(trial.convictions()[0].why, HasSubstr("different answers when asked 2 times"));
}

// It flipped a bit once. Asked again, it says something else.
TEST(Trial, AShardThatTakesItsAnswerBackIsConvictedWithoutAThird) {
  Trial trial(Differ(1, 2));
  EXPECT_THAT(trial.Next(kNow), UnorderedElementsAre(1, 2));
  EXPECT_THAT(trial.Next(kNow), IsEmpty());  // both are asked
  trial.OnAnswer(2, Result(8));
  EXPECT_FALSE(trial.is_over());  // the other has yet to be heard
  trial.OnAnswer(1, Result(8));
  EXPECT_TRUE(trial.is_over());
  EXPECT_THAT(Convicted(trial), ElementsAre(1));
}

TEST(Trial, TwoThatBothTakeTheirAnswersBackAreBothConvicted) {
  Trial trial(Differ(1, 2));
  trial.Next(kNow);
  trial.OnAnswer(1, Result(3));
  trial.OnAnswer(2, Result(4));
  EXPECT_THAT(Convicted(trial), UnorderedElementsAre(1, 2));
}

TEST(Trial, AThirdHolderOutvotesTheOneThatIsWrongEachTime) {
  Trial::Case of = Differ(1, 2);
  of.holders = {5};
  Trial trial(of);
  AnswerAlways(trial, {{1, 7}, {2, 8}, {5, 7}});
  EXPECT_THAT(Convicted(trial), ElementsAre(2));
  EXPECT_EQ(trial.convictions()[0].why, "2 others agree on another answer");
}

TEST(Trial, ThreeDifferentAnswersConvictNobody) {
  Trial::Case of = Differ(1, 2);
  of.holders = {5};
  Trial trial(of);
  AnswerAlways(trial, {{1, 7}, {2, 8}, {5, 9}});
  EXPECT_TRUE(trial.is_over());
  EXPECT_THAT(Convicted(trial), IsEmpty());
}

TEST(Trial, TwoAgainstTwoConvictNobody) {
  Trial::Case of = Differ(1, 2);
  of.holders = {5, 6};
  Trial trial(of);
  AnswerAlways(trial, {{1, 7}, {2, 8}, {5, 7}, {6, 8}});
  EXPECT_THAT(Convicted(trial), IsEmpty());
}

TEST(Trial, WithoutAThirdHolderAnHeirLoadsTheExpertAndDecides) {
  Trial::Case of = Differ(1, 2);
  of.heirs = {4, 0};
  Trial trial(of);
  EXPECT_THAT(trial.Next(kNow), UnorderedElementsAre(1, 2));
  trial.OnAnswer(1, Result(7));
  trial.OnAnswer(2, Result(8));
  EXPECT_THAT(trial.Next(kNow), UnorderedElementsAre(1, 2, 4));
  trial.OnAnswer(1, Result(7));
  trial.OnAnswer(2, Result(8));
  trial.OnLoading(4, kNow + absl::Seconds(1));
  EXPECT_THAT(trial.Next(kNow), IsEmpty());
  EXPECT_EQ(trial.wake_at(), kNow + absl::Seconds(1));
  EXPECT_THAT(trial.Next(kNow + absl::Seconds(1)), ElementsAre(4));
  trial.OnAnswer(4, Result(8));
  EXPECT_THAT(Convicted(trial), ElementsAre(1));
}

TEST(Trial, AnHeirThatDeclinesIsFollowedByTheNext) {
  Trial::Case of = Differ(1, 2);
  of.heirs = {4, 0};
  Trial trial(of);
  AnswerAlways(trial, {{1, 7}, {2, 8}, {0, 7}});
  EXPECT_THAT(Convicted(trial), ElementsAre(2));
}

TEST(Trial, TwoThatStickToTheirAnswersAreNotDecidedWithoutAThird) {
  Trial trial(Differ(1, 2));
  AnswerAlways(trial, {{1, 7}, {2, 8}});
  EXPECT_TRUE(trial.is_over());
  EXPECT_THAT(Convicted(trial), IsEmpty());
}

TEST(Trial, EndsWhenNobodyAnswersAnyMore) {
  Trial::Case of = Differ(1, 2);
  of.holders = {3};
  Trial trial(of);
  AnswerAlways(trial, {});
  EXPECT_TRUE(trial.is_over());
  EXPECT_THAT(Convicted(trial), IsEmpty());
}

// What it said before it went counts.
TEST(Trial, AShardThatIsGoneIsOutvotedAllTheSame) {
  Trial::Case of = Differ(1, 2);
  of.holders = {3};
  Trial trial(of);
  AnswerAlways(trial, {{2, 8}, {3, 8}});
  EXPECT_THAT(Convicted(trial), ElementsAre(1));
}

// One shard is broken, in one way or another; others are silent or load at random. Whatever happens, no sound
// shard is convicted, and the trial ends.
TEST(Trial, OneBrokenShardNeverGetsASoundOneConvicted) {
  int num_convictions = 0;
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int limit) { return static_cast<int>(random() % limit); };
    const int num_shards = 2 + below(4);
    const int broken = below(num_shards);
    const bool is_stuck = below(2) == 0;
    const int flips_one_in = 1 + below(3);
    const auto answer_of = [&](int shard) {
      if (shard != broken) return 0;
      if (is_stuck) return 1;
      return below(flips_one_in) == 0 ? 2 + below(200) : 0;
    };
    Trial::Case of;
    const int other = (broken + 1) % num_shards;
    of.first = {.shard = broken, .result = Result(1)};
    of.second = {.shard = other, .result = Result(0)};
    if (below(2) == 0) std::swap(of.first, of.second);
    for (int shard = 0; shard < num_shards; ++shard) {
      if (shard == broken || shard == other) continue;
      (below(2) == 0 ? of.holders : of.heirs).push_back(shard);
    }
    Trial trial(of);
    absl::Time now = kNow;
    for (int step = 0; !trial.is_over(); ++step) {
      ASSERT_LT(step, 1000) << seed;
      const std::vector<int> asks = trial.Next(now);
      if (asks.empty()) now = trial.wake_at();
      for (const int shard : asks) {
        const int what = below(10);
        if (what == 0) {
          trial.OnSilent(shard);
        } else if (what == 1) {
          trial.OnLoading(shard, now + absl::Milliseconds(1 + below(100)));
        } else {
          trial.OnAnswer(shard, Result(answer_of(shard)));
        }
      }
    }
    for (const int shard : Convicted(trial)) EXPECT_EQ(shard, broken) << seed;
    num_convictions += !trial.convictions().empty();
  }
  EXPECT_GT(num_convictions, 2500);
}

}  // namespace
}  // namespace orrery
