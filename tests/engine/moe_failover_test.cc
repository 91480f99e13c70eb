// Shards that vanish, stay silent, or hold less than believed: an answer takes longer, and keeps
// every bit.
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

// Shard 0 is connected and never answers. It is asked once; every later frame would lie in its inbox.
TEST_F(MoeFailover, ASilentShardIsAskedOnceAndNotInEveryLayerAndStep) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  PromptRunner runner(cluster->parts(0), static_cast<int>(ids_->size()));
  for (int step = 0; step < 3; ++step) {
    const auto logprobs = runner.Run(*ids_, absl::Seconds(8));
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    EXPECT_EQ(*logprobs, *expected_);
  }
  EXPECT_FALSE(cluster->loopback().shard(0).Receive(absl::Now()).has_value());
  EXPECT_EQ(cluster->loopback().shard(0).counters().abandoned, 1u);
}

// And once it has answered, it is asked as before.
TEST_F(MoeFailover, AShardThatFellSilentIsAskedAllTheSameForWhatNobodyElseHolds) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  PromptRunner runner(cluster->parts(0), static_cast<int>(ids_->size()));
  const auto run = [&] {
    const auto logprobs = runner.Run(*ids_, absl::Seconds(8));
    ASSERT_TRUE(logprobs.ok()) << logprobs.status();
    EXPECT_EQ(*logprobs, *expected_);
  };
  run();
  cluster->directory(0).SetHeld(1, {});
  cluster->Answer(0);
  run();
  EXPECT_EQ(cluster->loopback().shard(0).counters().abandoned, 1u);
  cluster->directory(0).SetHeld(1, cluster->shard(1).held());
  cluster->FallSilent(0);
  run();
  EXPECT_FALSE(cluster->loopback().shard(0).Receive(absl::Now()).has_value());
  EXPECT_EQ(cluster->loopback().shard(0).counters().abandoned, 2u);
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
  cluster->directory(0).SetHeld(0, cluster->shard(1).held());
  ExpectSameBits(*cluster);
  std::vector<int> holders(cluster->config().num_experts);
  cluster->directory(0).PickHolders(kFirstMoeLayer, {true, false}, holders);
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
  cluster->directory(0).SetHeld(0, {});
  std::thread announcing([&] { cluster->directory(0).SetHeld(0, cluster->shard(0).held()); });
  ExpectSameBits(*cluster);
  announcing.join();
}

TEST_F(MoeFailover, NothingButNotHeldEndsAtTheDeadline) {
  const auto cluster = EngineCluster::Make({.shards = {kLowerHalf}});
  cluster->AnswerAll();
  LayerExperts everything = {.layer = kFirstMoeLayer, .experts = {}};
  for (int expert = 0; expert < kAll.end; ++expert) everything.experts.push_back(expert);
  cluster->directory(0).SetHeld(0, {everything});
  const auto failed = RunPrompt(cluster->parts(0), *ids_, absl::Milliseconds(300));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable) << failed.status();
}

}  // namespace
}  // namespace orrery
