#include "services/attention/recovery.h"

#include <algorithm>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kNumShards = 4;
constexpr int kNumExperts = 8;
constexpr int kLayer = 1;
constexpr absl::Duration kMinPatience = absl::Milliseconds(50);
constexpr absl::Duration kMaxPatience = absl::Seconds(2);
constexpr absl::Duration kTimeout = absl::Seconds(30);

ModelConfig OneMoeLayer() {
  ModelConfig config;
  config.num_layers = 2;
  config.layer_is_moe = {false, true};
  config.num_experts = kNumExperts;
  return config;
}

// Four shards under virtual time; a test says what each answers, and when.
class RecoveryTest : public ::testing::Test {
 protected:
  RecoveryTest() {
    for (int shard = 0; shard < kNumShards; ++shard) Hold(shard, {2 * shard, 2 * shard + 1});
  }

  void Hold(int shard, std::vector<int> experts, int room = 0) {
    directory_.SetClaim(shard,
                        {.held = {{.layer = kLayer, .experts = std::move(experts)}}, .room = room});
  }
  void Drain(int shard, std::vector<int> experts) {
    directory_.SetClaim(
        shard, {.held = {{.layer = kLayer, .experts = std::move(experts)}}, .is_draining = true});
  }

  // One row that visits these experts.
  void Begin(const std::vector<int>& experts, absl::Duration timeout = kTimeout) {
    entries_.clear();
    for (size_t i = 0; i < experts.size(); ++i) {
      entries_.push_back({.row = 0, .expert = experts[i], .result = static_cast<int32_t>(i)});
    }
    recovery_.Begin({.layer = kLayer, .timeout = timeout, .entries = entries_}, now_);
  }
  void MakeAllKnown() {
    for (int shard = 0; shard < kNumShards; ++shard) {
      health_.OnAnswered(shard, 1, absl::Milliseconds(1));
    }
  }

  struct Asked {
    int peer;
    std::vector<int> experts;
    bool operator==(const Asked&) const = default;
  };
  friend std::ostream& operator<<(std::ostream& out, const Asked& asked) {
    return out << asked.peer << ": " << ::testing::PrintToString(asked.experts);
  }
  // Sends all that is to be asked now; asks are numbered through.
  std::vector<Asked> Ask() {
    std::vector<Asked> asked;
    for (PeerEntries& ask : recovery_.Next(now_, connected_)) {
      asked.push_back({.peer = ask.peer, .experts = {}});
      for (const DispatchEntry& entry : ask.entries) asked.back().experts.push_back(entry.expert);
      open_[next_id_] = ask;
      recovery_.OnSent(next_id_++, std::move(ask), now_);
    }
    return asked;
  }
  // The oldest open ask of the shard gets the same state for all its entries.
  void Answer(int peer, EntryState state = EntryState::kDone, uint32_t eta_ms = 0) {
    const auto place = std::find_if(open_.begin(), open_.end(),
                                    [&](const auto& ask) { return ask.second.peer == peer; });
    ASSERT_NE(place, open_.end()) << "shard " << peer << " was not asked";
    CombineReport report;
    for (const DispatchEntry& entry : place->second.entries) {
      if (state == EntryState::kDone) continue;
      report.push_back({.peer = peer, .entry = entry, .state = state, .eta_ms = eta_ms});
    }
    std::optional<absl::Duration> after;
    if (state != EntryState::kLost) after = absl::Milliseconds(1);
    const uint32_t id = place->first;
    open_.erase(place);
    recovery_.OnAnswer(id, report, after, now_);
  }
  void Pass(absl::Duration time) { now_ += time; }
  void Cut(int shard) { connected_[shard] = false; }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  std::vector<bool> connected_ = std::vector<bool>(kNumShards, true);
  ExpertDirectory directory_{OneMoeLayer(), {"a", "b", "c", "d"}, /*with_mtp=*/false};
  ShardHealth health_{kNumShards, {.min_patience = kMinPatience, .max_patience = kMaxPatience}};
  ShardMemory memory_{directory_.num_shards()};
  Recovery recovery_{kNumExperts, &directory_, &health_, &memory_};
  std::vector<DispatchEntry> entries_;
  std::map<uint32_t, PeerEntries> open_;
  uint32_t next_id_ = 1;
};

TEST_F(RecoveryTest, APauseTakesNothingOfItsTime) {
  Begin({1, 2, 3});
  const absl::Time begin = recovery_.begin(), deadline = recovery_.deadline();
  recovery_.OnPaused(absl::Seconds(7));
  EXPECT_EQ(recovery_.begin(), begin + absl::Seconds(7));
  EXPECT_EQ(recovery_.deadline(), deadline + absl::Seconds(7));
}

// As the micro-batches of a step do.
TEST_F(RecoveryTest, AnotherOneKnowsWhoHasJustLostRows) {
  Begin({1, 2, 3});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {1}}, Asked{1, {2, 3}}));
  Answer(1, EntryState::kLost);
  Recovery other(kNumExperts, &directory_, &health_, &memory_);
  other.Begin({.layer = 1, .timeout = absl::Seconds(30), .entries = entries_}, now_);
  for (const PeerEntries& ask : other.Next(now_, connected_)) EXPECT_NE(ask.peer, 1);
}

TEST_F(RecoveryTest, AsksEachHolderOnceAndIsDoneWhenAllHaveAnswered) {
  Begin({1, 2, 3});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {1}}, Asked{1, {2, 3}}));
  EXPECT_TRUE(recovery_.is_smooth());
  EXPECT_THAT(Ask(), IsEmpty());
  Answer(1);
  EXPECT_FALSE(recovery_.done());
  EXPECT_EQ(recovery_.DescribeLeft(), "layer 1: expert 1 has no holder");
  Answer(0);
  EXPECT_TRUE(recovery_.done());
}

TEST_F(RecoveryTest, ALayerWithoutRowsIsDoneAtOnce) {
  Begin({});
  EXPECT_TRUE(recovery_.done());
}

TEST_F(RecoveryTest, WhatIsLostIsAskedOfTheOtherHolder) {
  Hold(3, {0, 6, 7});
  Begin({0});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {0}}));
  Answer(0, EntryState::kLost);
  EXPECT_THAT(Ask(), ElementsAre(Asked{3, {0}}));
}

TEST_F(RecoveryTest, WhatIsNotHeldIsNotAskedThereAgain) {
  Begin({0});
  Ask();
  Answer(0, EntryState::kNotHeld);
  EXPECT_FALSE(directory_.Holds(0, {kLayer, 0}));
  EXPECT_THAT(Ask(), IsEmpty());  // and no shard has room
  Hold(2, {0});
  EXPECT_THAT(Ask(), ElementsAre(Asked{2, {0}}));
}

TEST_F(RecoveryTest, TheOnlyHolderThatRefusesIsAskedAgainAfterAPause) {
  Begin({0});
  Ask();
  Answer(0, EntryState::kRefused);
  EXPECT_THAT(Ask(), IsEmpty());
  now_ = recovery_.wake_at();
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {0}}));
}

TEST_F(RecoveryTest, PastItsPatienceAnotherHolderIsAskedBesideALateShardAndTheFirstAnswerCounts) {
  MakeAllKnown();
  Hold(3, {0, 1, 6, 7});
  Begin({0, 1, 2});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {0}}, Asked{1, {2}}, Asked{3, {1}}));
  Answer(1);
  Answer(3);
  EXPECT_EQ(recovery_.wake_at(), now_ + kMinPatience);
  now_ = recovery_.wake_at();
  EXPECT_THAT(Ask(), ElementsAre(Asked{3, {0}}));
  EXPECT_FALSE(recovery_.is_smooth());
  EXPECT_THAT(Ask(), IsEmpty());  // once
  EXPECT_EQ(directory_.counters(0).hedges, 1);
  Answer(3);
  EXPECT_TRUE(recovery_.done());
  Answer(0);  // it comes all the same
  EXPECT_TRUE(recovery_.done());
}

TEST_F(RecoveryTest, ALateShardIsSparedInLaterLayersUntilItAnswers) {
  MakeAllKnown();
  Hold(3, {0, 6, 7});
  Begin({0});
  Ask();
  Pass(kMinPatience);
  Ask();
  Answer(3);
  Begin({0, 1});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {1}}, Asked{3, {0}}));  // 1 has no other holder
  for (int i = 0; i < ShardHealth::kAnswersToTrust; ++i) {
    health_.OnAnswered(0, 1, absl::Milliseconds(1));
  }
  Begin({0});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {0}}));
}

TEST_F(RecoveryTest, WithTwoLateHoldersTheThirdIsAsked) {
  MakeAllKnown();
  for (const int shard : {0, 1, 2}) Hold(shard, {0});
  Begin({0});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {0}}));
  Pass(kMinPatience);
  EXPECT_THAT(Ask(), ElementsAre(Asked{1, {0}}));
  Pass(kMinPatience);
  EXPECT_THAT(Ask(), ElementsAre(Asked{2, {0}}));
  Pass(kMinPatience);
  EXPECT_THAT(Ask(), IsEmpty());
  Answer(1);
  EXPECT_TRUE(recovery_.done());
}

TEST_F(RecoveryTest, AHedgeThatIsLostLeavesTheLateShardAndIsAskedAnew) {
  MakeAllKnown();
  for (const int shard : {0, 1, 2}) Hold(shard, {0});
  Begin({0});
  Ask();
  Pass(kMinPatience);
  EXPECT_THAT(Ask(), ElementsAre(Asked{1, {0}}));
  Answer(1, EntryState::kLost);
  EXPECT_THAT(Ask(), ElementsAre(Asked{2, {0}}));
}

// Nobody else holds it, and shard 0 still says that it is well: others would have to load it.
TEST_F(RecoveryTest, AHeirIsNotAskedBesideALateShardWhileThatOneDescribesItself) {
  MakeAllKnown();
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  Begin({0});
  Ask();
  Pass(kMaxPatience);
  EXPECT_THAT(Ask(), IsEmpty());
  directory_.SetGone(0);
  EXPECT_EQ(Ask().size(), 1u);
}

TEST_F(RecoveryTest, TheHeirOfALostShardLoadsAndIsAskedAgainWhenItSaid) {
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  Cut(0);
  directory_.SetGone(0);
  const int heir = directory_.Heirs({kLayer, 0}).front();
  Begin({0});
  EXPECT_THAT(Ask(), ElementsAre(Asked{heir, {0}}));
  Answer(heir, EntryState::kLoading, /*eta_ms=*/300);
  EXPECT_THAT(Ask(), IsEmpty());
  Pass(absl::Milliseconds(299));
  EXPECT_THAT(Ask(), IsEmpty());
  Pass(absl::Milliseconds(1));
  EXPECT_THAT(Ask(), ElementsAre(Asked{heir, {0}}));
  Answer(heir);
  EXPECT_TRUE(recovery_.done());
  EXPECT_TRUE(directory_.Holds(heir, {kLayer, 0}));
}

// Another one would load the same, and have less room for the rest.
TEST_F(RecoveryTest, AHeirThatIsLateIsWaitedForWhileItDescribesItself) {
  MakeAllKnown();
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  directory_.SetGone(0);
  const std::vector<int> heirs = directory_.Heirs({kLayer, 0});
  Begin({0});
  EXPECT_THAT(Ask(), ElementsAre(Asked{heirs[0], {0}}));
  Pass(2 * kMinPatience);
  EXPECT_THAT(Ask(), IsEmpty());
  Answer(heirs[0], EntryState::kLoading, /*eta_ms=*/100);
  Pass(absl::Milliseconds(100));
  EXPECT_THAT(Ask(), ElementsAre(Asked{heirs[0], {0}}));
  Pass(2 * kMinPatience);
  EXPECT_THAT(Ask(), IsEmpty());
  directory_.SetGone(heirs[0]);
  EXPECT_THAT(Ask(), ElementsAre(Asked{heirs[1], {0}}));
}

TEST_F(RecoveryTest, AHeirThatDescribesItselfAndNeverAnswersIsGivenUp) {
  MakeAllKnown();
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  directory_.SetGone(0);
  const std::vector<int> heirs = directory_.Heirs({kLayer, 0});
  Begin({0});
  EXPECT_THAT(Ask(), ElementsAre(Asked{heirs[0], {0}}));
  Pass(kMaxPatience);
  EXPECT_THAT(Ask(), ElementsAre(Asked{heirs[1], {0}}));
  EXPECT_THAT(Ask(), IsEmpty());
}

TEST_F(RecoveryTest, AHeirWithoutRoomSendsTheRankToTheNext) {
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  directory_.SetGone(0);
  const std::vector<int> heirs = directory_.Heirs({kLayer, 0});
  ASSERT_EQ(heirs.size(), 3u);
  Begin({0});
  for (const int heir : heirs) {
    EXPECT_THAT(Ask(), ElementsAre(Asked{heir, {0}}));
    Answer(heir, EntryState::kNotHeld);
  }
  EXPECT_THAT(Ask(), IsEmpty());
}

TEST_F(RecoveryTest, AConnectionThatBrokeHasAMomentToComeBackBeforeHeirsAreAsked) {
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  Begin({0});
  Ask();
  Cut(0);
  Answer(0, EntryState::kLost);
  EXPECT_THAT(Ask(), IsEmpty());
  Pass(absl::Milliseconds(400));
  EXPECT_THAT(Ask(), IsEmpty());
  Pass(absl::Milliseconds(200));
  EXPECT_EQ(Ask().size(), 1u);
}

TEST_F(RecoveryTest, LoadingMovesTheDeadlineToTwiceTheTimeoutAtMost) {
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  directory_.SetGone(0);
  const absl::Time begin = now_;
  const int heir = directory_.Heirs({kLayer, 0}).front();
  Begin({0}, absl::Seconds(2));
  Ask();
  Answer(heir, EntryState::kLoading, /*eta_ms=*/1500);
  EXPECT_EQ(recovery_.deadline(), begin + absl::Seconds(3));
  Pass(absl::Seconds(1));
  Ask();
  Answer(heir, EntryState::kLoading, /*eta_ms=*/60'000);
  EXPECT_EQ(recovery_.deadline(), begin + absl::Seconds(4));
}

TEST_F(RecoveryTest, ADrainingShardIsAskedOnlyForWhatNobodyElseHolds) {
  Drain(0, {0, 1});
  Hold(3, {0, 6, 7});
  Begin({0, 1});
  EXPECT_THAT(Ask(), ElementsAre(Asked{0, {1}}, Asked{3, {0}}));
}

TEST_F(RecoveryTest, TheSuccessorOfADrainingShardIsAskedAheadOnceInAWhile) {
  Drain(0, {0, 1});
  EXPECT_EQ(recovery_.PickSuccessor(0, now_, connected_), kNoShard);  // nobody has room
  for (const int shard : {1, 2, 3}) Hold(shard, {2 * shard, 2 * shard + 1}, /*room=*/9);
  Begin({0});
  const int heir = recovery_.PickSuccessor(0, now_, connected_);
  EXPECT_EQ(heir, directory_.Heirs({kLayer, 0}).front());
  EXPECT_EQ(recovery_.PickSuccessor(0, now_, connected_), kNoShard);
  EXPECT_EQ(recovery_.PickSuccessor(2, now_, connected_), kNoShard);  // its shard stays
  Pass(absl::Seconds(1));
  EXPECT_EQ(recovery_.PickSuccessor(0, now_, connected_), heir);
  directory_.Add(heir, {kLayer, 0});
  Pass(absl::Seconds(1));
  EXPECT_EQ(recovery_.PickSuccessor(0, now_, connected_), kNoShard);
}

TEST_F(RecoveryTest, WhileAllAreSlowOnlyTheBudgetIsHedgedUntilPatienceEnds) {
  MakeAllKnown();
  while (health_.MayHedge(1)) {
  }
  Hold(3, {0, 6, 7});
  Begin({0});
  Ask();
  Pass(kMinPatience);
  EXPECT_THAT(Ask(), IsEmpty());
  Pass(kMaxPatience - kMinPatience);
  EXPECT_THAT(Ask(), ElementsAre(Asked{3, {0}}));
}

}  // namespace
}  // namespace orrery
