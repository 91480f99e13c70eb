// Shards that vanish, stay silent, or hold less than believed: an answer takes longer, and keeps
// every bit.
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_cluster.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

constexpr ExpertRange kAll = {.begin = 0, .end = 16};  // abacus has 16 experts
constexpr ExpertRange kLowerHalf = {.begin = 0, .end = 8};
constexpr ExpertRange kUpperHalf = {.begin = 8, .end = 16};
constexpr int kFirstMoeLayer = 1;

absl::Time Patiently() { return absl::Now() + kPatience; }

class MoeFailover : public ::testing::Test {
 protected:
  // What one shard with everything answers, undisturbed.
  static void SetUpTestSuite() {
    const auto cluster = EngineCluster::Make({.shards = {kAll}});
    cluster->AnswerAll();
    ids_ = new std::vector<int32_t>(RandomIds(cluster->config(), 23, /*seed=*/7));
    expected_ = new std::vector<float>(*RunPrompt(cluster->parts(0), *ids_, kPatience));
  }
  static void TearDownTestSuite() {
    delete ids_;
    delete expected_;
  }

  static void ExpectSameBits(EngineCluster& cluster, StepProbe* probe = nullptr) {
    const auto logprobs = RunPrompt(cluster.parts(0), *ids_, kPatience, {.probe = probe});
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    EXPECT_EQ(*logprobs, *expected_);
  }

  static std::vector<int32_t>* ids_;
  static std::vector<float>* expected_;
};
std::vector<int32_t>* MoeFailover::ids_ = nullptr;
std::vector<float>* MoeFailover::expected_ = nullptr;

// Cuts a shard off when a layer's attention is done.
class Cutter : public StepProbe {
 public:
  Cutter(Loopback* loopback, int layer, int shard)
      : loopback_(loopback), layer_(layer), shard_(shard) {}
  void OnAttention(int layer, ConstMatrix out) override {
    if (layer == layer_) loopback_->DisconnectShard(shard_);
  }

 private:
  Loopback* loopback_;
  const int layer_;
  const int shard_;
};

// Computes until a time has come, in the first MoE layer.
class Ponderer : public StepProbe {
 public:
  explicit Ponderer(absl::Time end) : end_(end) {}
  void OnAttention(int layer, ConstMatrix out) override {
    while (layer == kFirstMoeLayer && absl::Now() < end_) {
    }
  }

 private:
  const absl::Time end_;
};

TEST_F(MoeFailover, HowExpertsAreSpreadOverShardsChangesNoBit) {
  const auto halves = EngineCluster::Make({.shards = {kUpperHalf, kLowerHalf}});
  halves->AnswerAll();
  ExpectSameBits(*halves);
  const auto copies = EngineCluster::Make({.shards = {kAll, kLowerHalf, kAll}});
  copies->AnswerAll();
  ExpectSameBits(*copies);
}

TEST_F(MoeFailover, AShardThatIsGoneIsReplacedByTheOtherHolderAndTakenBackLater) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->AnswerAll();
  for (const int shard : {0, 1}) {
    cluster->loopback().DisconnectShard(shard);
    ExpectSameBits(*cluster);
    cluster->loopback().ReconnectShard(shard);
    ExpectSameBits(*cluster);
  }
}

TEST_F(MoeFailover, AShardThatVanishesBetweenTwoLayersChangesNoBit) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->AnswerAll();
  Cutter cutter(&cluster->loopback(), /*layer=*/3, /*shard=*/1);
  ExpectSameBits(*cluster, &cutter);
}

// The frame was received, and its answer never comes: kill -9 in the middle of the work.
TEST_F(MoeFailover, AShardThatDiesWithRowsInItsHandsChangesNoBit) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  std::thread dying([&] {
    EXPECT_TRUE(cluster->loopback().shard(0).Receive(Patiently()).has_value());
    cluster->loopback().DisconnectShard(0);
  });
  ExpectSameBits(*cluster);
  dying.join();
}

// Shard 0 is connected and never answers. It costs a part of the layer's time, not the answer.
TEST_F(MoeFailover, AShardThatNeverAnswersIsGivenUpForTheOtherHolder) {
  const std::string model_dir = "tests/data/golden/real_head_dims";  // one MoE layer
  const auto cluster = EngineCluster::Make({.model_dir = model_dir, .shards = {kAll, kAll}});
  const std::vector<int32_t> ids = RandomIds(cluster->config(), 9, /*seed=*/3);
  cluster->AnswerAll();
  const auto expected = RunPrompt(cluster->parts(0), ids, kPatience);
  ASSERT_TRUE(expected.ok()) << expected.status();
  cluster->FallSilent(0);
  const auto logprobs = RunPrompt(cluster->parts(0), ids, absl::Seconds(8));
  ASSERT_TRUE(logprobs.ok()) << logprobs.status();
  EXPECT_EQ(*logprobs, *expected);
}

// The time to compute is not the shards'. The first layer takes all of it, the others want some too.
TEST_F(MoeFailover, AStepMayTakeLongerThanItMayWaitForExperts) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  const absl::Duration expert_timeout = absl::Seconds(3);
  Ponderer ponderer(absl::Now() + expert_timeout);
  const auto logprobs = RunPrompt(cluster->parts(0), *ids_, expert_timeout, {.probe = &ponderer});
  ASSERT_TRUE(logprobs.ok()) << logprobs.status();
  EXPECT_EQ(*logprobs, *expected_);
}

// What lies at a silent shard: how many frames, and how many of them ask for more than a probe does.
struct Untouched {
  int num_frames = 0;
  int num_asks = 0;
};
Untouched TakeUntouched(ShardExchange& shard) {
  Untouched untouched;
  while (const std::optional<InboundGroup> group = shard.Receive(absl::Now())) {
    for (const InboundFrame& frame : *group) {
      ++untouched.num_frames;
      untouched.num_asks += frame.entries.size() > 1;
    }
  }
  return untouched;
}

// Shard 0 is connected and never answers. It is asked once; from then on one row at a time tries it.
TEST_F(MoeFailover, ASilentShardIsAskedOnceAndNotInEveryLayerAndStep) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  PromptRunner runner(cluster->parts(0), static_cast<int>(ids_->size()));
  for (int step = 0; step < 3; ++step) {
    const auto logprobs = runner.Run(*ids_, kPatience);
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    EXPECT_EQ(*logprobs, *expected_);
  }
  const Untouched untouched = TakeUntouched(cluster->loopback().shard(0));
  EXPECT_EQ(untouched.num_asks, 1);
  EXPECT_LE(untouched.num_frames, SecondAnswers::kMaxOpen);
  EXPECT_EQ(cluster->directory(0).counters(0).hedges, 1);
}

// And once it has answered, it is asked as before.
TEST_F(MoeFailover, AShardThatFellSilentIsAskedAllTheSameForWhatNobodyElseHolds) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  PromptRunner runner(cluster->parts(0), static_cast<int>(ids_->size()));
  const auto run = [&] {
    const auto logprobs = runner.Run(*ids_, kPatience);
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    EXPECT_EQ(*logprobs, *expected_);
  };
  run();
  cluster->directory(0).SetGone(1);
  cluster->Answer(0);
  run();
  EXPECT_EQ(cluster->directory(0).counters(0).hedges, 1);
  cluster->directory(0).SetClaim(1, {.held = cluster->shard(1).held()});
  cluster->FallSilent(0);
  run();
  EXPECT_EQ(cluster->directory(0).counters(0).hedges, 2);
}

// Steps until the shard's answers have been compared with another's.
ShardCounters RunUntilCompared(EngineCluster& cluster, int shard, PromptRunner& runner,
                               const std::vector<int32_t>& ids,
                               const std::vector<float>& expected) {
  const absl::Time deadline = Patiently();
  while (cluster.directory(0).counters(shard).compared_answers == 0 && absl::Now() < deadline) {
    const auto logprobs = runner.Run(ids, kPatience);
    EXPECT_TRUE(logprobs.ok()) << logprobs.status();
    if (!logprobs.ok()) break;
    EXPECT_EQ(*logprobs, expected);
  }
  return cluster.directory(0).counters(shard);
}

TEST_F(MoeFailover, WhatALateShardAnswersAfterAllIsComparedAndNotUsed) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  PromptRunner runner(cluster->parts(0), static_cast<int>(ids_->size()));
  ASSERT_TRUE(runner.Run(*ids_, kPatience).ok());
  cluster->Answer(0);
  const ShardCounters counters = RunUntilCompared(*cluster, 0, runner, *ids_, *expected_);
  EXPECT_GT(counters.compared_answers, 0);
  EXPECT_EQ(counters.differing_answers, 0);
}

// Shard 0 is late, and then answers nonsense: a machine whose memory or processor is broken.
TEST_F(MoeFailover, AnAnswerThatDiffersFromAnotherHoldersIsCountedAndNotUsed) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  PromptRunner runner(cluster->parts(0), static_cast<int>(ids_->size()));
  ASSERT_TRUE(runner.Run(*ids_, kPatience).ok());
  ShardExchange& liar = cluster->loopback().shard(0);
  const std::optional<InboundGroup> group = liar.Receive(absl::Now());
  ASSERT_TRUE(group.has_value());
  for (const InboundFrame& frame : *group) {
    const std::vector<EntryState> states(frame.entries.size(), EntryState::kDone);
    const std::vector<std::byte> results(states.size() * cluster->shard(0).result_bytes(),
                                         std::byte{1});
    liar.Reply(frame, {.states = states, .results = results});
  }
  const ShardCounters counters = RunUntilCompared(*cluster, 0, runner, *ids_, *expected_);
  EXPECT_GT(counters.compared_answers, 0);
  EXPECT_EQ(counters.differing_answers, counters.compared_answers);
}

// No other shard holds what shard 1 did: the others load it, and from then on hold it.
TEST_F(MoeFailover, HeirsLoadWhatADeadShardHeldAndChangeNoBit) {
  const auto cluster =
      EngineCluster::Make({.shards = {{0, 5}, {5, 11}, {11, 16}}, .heir_room = 1000});
  cluster->AnswerAll();
  ExpectSameBits(*cluster);
  cluster->loopback().DisconnectShard(1);
  cluster->directory(0).SetGone(1);
  ExpectSameBits(*cluster);
  EXPECT_TRUE(cluster->directory(0).MissingBeyondHeirs().empty());
  int num_inherited = 0;
  for (const int shard : {0, 2}) {
    for (int expert = 5; expert < 11; ++expert) {
      num_inherited +=
          cluster->directory(0).Holds(shard, {.layer = kFirstMoeLayer, .expert = expert});
    }
  }
  EXPECT_GT(num_inherited, 0);
  EXPECT_LE(num_inherited, 6);  // none twice
}

// The connection alone is gone, as after kill -9, before anybody has noticed that the process is.
TEST_F(MoeFailover, HeirsAreAskedThoughTheDeadShardWasNotMissedYet) {
  const auto cluster =
      EngineCluster::Make({.shards = {{0, 5}, {5, 11}, {11, 16}}, .heir_room = 1000});
  cluster->AnswerAll();
  Cutter cutter(&cluster->loopback(), /*layer=*/2, /*shard=*/1);
  ExpectSameBits(*cluster, &cutter);
}

TEST_F(MoeFailover, AShardThatIsConnectedAnewIsAskedOnceItHasDescribedItself) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  ExpertDirectory& directory = cluster->directory(0);
  std::promise<int> asked;
  directory.SetAsker([&](int shard) { asked.set_value(shard); });
  cluster->loopback().DisconnectShard(0);
  cluster->loopback().ReconnectShard(0);
  const auto failed = RunPrompt(cluster->parts(0), *ids_, absl::Milliseconds(100));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable) << failed.status();
  EXPECT_EQ(asked.get_future().get(), 0);
  directory.SetClaim(0, {.held = cluster->shard(0).held()});
  ExpectSameBits(*cluster);
  directory.SetAsker(nullptr);
}

TEST_F(MoeFailover, WhereHeirsHaveNoRoomTheErrorNamesTheExpertsAndTheShardIsTakenBack) {
  const auto cluster = EngineCluster::Make({.shards = {kLowerHalf, kUpperHalf}, .heir_room = 1});
  cluster->AnswerAll();
  cluster->loopback().DisconnectShard(1);
  cluster->directory(0).SetGone(1);
  const auto failed = RunPrompt(cluster->parts(0), *ids_, absl::Milliseconds(300));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable) << failed.status();
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("no holder"));
  cluster->loopback().ReconnectShard(1);
  cluster->directory(0).SetClaim(1, {.held = cluster->shard(1).held()});
  ExpectSameBits(*cluster);
}

// Shard 0 is connected and never answers. Shard 1 could too, so that a step that waits on would end well,
// after a quarter of kPatience.
TEST_F(MoeFailover, AStepThatNobodyWantsEndsAndTheSilentShardDropsItsRows) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  // Wanted until the rows lie at the silent shard.
  int num_looks = 0;
  const auto abandoned = [&] { return ++num_looks > 1; };
  const auto given_up = RunPrompt(cluster->parts(0), *ids_, kPatience, {.abandoned = abandoned});
  EXPECT_EQ(given_up.status().code(), absl::StatusCode::kCancelled) << given_up.status();
  EXPECT_THAT(std::string(given_up.status().message()), HasSubstr("layer 1"));
  cluster->Answer(0);
  ExpectSameBits(*cluster);
  EXPECT_EQ(cluster->loopback().shard(0).counters().abandoned, 1u);
}

TEST_F(MoeFailover, AStepThatIsWantedToTheEndKeepsEveryBitWhileItIsAsked) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kLowerHalf}});
  cluster->AnswerAll();
  const auto logprobs =
      RunPrompt(cluster->parts(0), *ids_, kPatience, {.abandoned = [] { return false; }});
  ASSERT_TRUE(logprobs.ok()) << logprobs.status();
  EXPECT_EQ(*logprobs, *expected_);
}

// What the directory says is a hint.
TEST_F(MoeFailover, AShardThatHoldsLessThanBelievedIsCorrected) {
  const auto cluster = EngineCluster::Make({.shards = {kLowerHalf, kAll}});
  cluster->AnswerAll();
  cluster->directory(0).SetClaim(0, {.held = cluster->shard(1).held()});
  ExpectSameBits(*cluster);
  std::vector<int> holders(cluster->config().num_experts);
  const std::vector<int> rows(holders.size(), 1);
  cluster->directory(0).PickHolders({.layer = kFirstMoeLayer, .rows = rows}, {true, false},
                                    holders);
  EXPECT_EQ(holders[0], 0);
  EXPECT_THAT(holders, ::testing::Contains(kNoShard));  // it said so, and was believed
}

TEST_F(MoeFailover, WithoutAnyHolderTheErrorNamesLayerAndExpertsAndTheNextStepWorks) {
  const auto cluster = EngineCluster::Make({.shards = {kLowerHalf, kUpperHalf}});
  cluster->AnswerAll();
  cluster->loopback().DisconnectShard(1);
  const auto failed = RunPrompt(cluster->parts(0), *ids_, absl::Milliseconds(300));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable) << failed.status();
  EXPECT_THAT(std::string(failed.status().message()),
              ::testing::ContainsRegex("layer 1: experts? [0-9, -]+ ha(s|ve) no holder that "
                                       "answered within [0-9.]+m?s"));
  EXPECT_THAT(std::string(failed.status().message()), ::testing::Not(HasSubstr("layer 2")));
  cluster->loopback().ReconnectShard(1);
  ExpectSameBits(*cluster);
}

TEST_F(MoeFailover, AHolderThatAppearsWhileALayerWaitsIsUsed) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  cluster->directory(0).SetGone(0);
  std::thread announcing(
      [&] { cluster->directory(0).SetClaim(0, {.held = cluster->shard(0).held()}); });
  ExpectSameBits(*cluster);
  announcing.join();
}

TEST_F(MoeFailover, NothingButNotHeldEndsAtTheDeadline) {
  const auto cluster = EngineCluster::Make({.shards = {kLowerHalf}});
  cluster->AnswerAll();
  LayerExperts everything = {.layer = kFirstMoeLayer, .experts = {}};
  for (int expert = 0; expert < kAll.end; ++expert) everything.experts.push_back(expert);
  cluster->directory(0).SetClaim(0, {.held = {everything}});
  const auto failed = RunPrompt(cluster->parts(0), *ids_, absl::Milliseconds(300));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable) << failed.status();
}

}  // namespace
}  // namespace orrery
