// Two micro-batches in turns, while shards vanish, stay silent or lie: the rows of both are with the experts at a
// time, and every bit is that of one batch.
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/attention/micro_batches.h"
#include "services/expert/bit_flips.h"
#include "tests/engine/engine_cluster.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr ExpertRange kAll = {.begin = 0, .end = 16};  // abacus has 16 experts
constexpr int kNumRows = 23;
constexpr int kMinRows = 8;  // 12 and 11 of them

absl::Time Patiently() { return absl::Now() + kPatience; }

TEST(RowsOf, CutsSequencesAndCountsFromItsOwnBegin) {
  const std::vector<int32_t> blocks = {4, 2};
  Batch batch;
  batch.ids = {10, 11, 12, 13, 14, 15, 16};
  batch.spans = {{.row_begin = 0, .num_rows = 2, .first_position = 9, .block_ids = blocks},
                 {.row_begin = 2,
                  .num_rows = 4,
                  .first_position = 30,
                  .num_cached_rows = 3,
                  .block_ids = blocks},
                 {.row_begin = 6, .num_rows = 1, .first_position = 5, .block_ids = blocks}};
  batch.logit_rows = {1, 4, 6};
  batch.lane = Lane::kBulk;
  batch.expert_timeout = absl::Seconds(3);

  const Batch first = RowsOf(batch, 0, 4), second = RowsOf(batch, 4, 7);
  EXPECT_THAT(first.ids, ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(second.ids, ElementsAre(14, 15, 16));
  EXPECT_THAT(first.logit_rows, ElementsAre(1));
  EXPECT_THAT(second.logit_rows, ElementsAre(0, 2));
  EXPECT_EQ(second.lane, Lane::kBulk);
  EXPECT_EQ(second.expert_timeout, absl::Seconds(3));
  ASSERT_EQ(first.spans.size(), 2);
  EXPECT_EQ(first.spans[1].num_rows, 2);
  EXPECT_EQ(first.spans[1].first_position, 30);
  EXPECT_EQ(first.spans[1].num_cached_rows, 2);
  ASSERT_EQ(second.spans.size(), 2);
  EXPECT_EQ(second.spans[0].row_begin, 0);
  EXPECT_EQ(second.spans[0].num_rows, 2);
  EXPECT_EQ(second.spans[0].first_position, 32);
  EXPECT_EQ(second.spans[0].num_cached_rows, 1);
  EXPECT_EQ(second.spans[1].row_begin, 2);
  EXPECT_EQ(second.spans[1].num_rows, 1);
  EXPECT_EQ(second.spans[1].first_position, 5);
  EXPECT_EQ(second.spans[1].block_ids.data(), blocks.data());
}

class MicroBatches : public ::testing::Test {
 protected:
  // What one shard with everything answers, undisturbed, to all rows at once.
  static void SetUpTestSuite() {
    const auto cluster = EngineCluster::Make({.shards = {kAll}});
    cluster->AnswerAll();
    ids_ = new std::vector<int32_t>(RandomIds(cluster->config(), kNumRows, /*seed=*/7));
    expected_ = new std::vector<float>(*RunPrompt(cluster->parts(0), *ids_, kPatience));
  }
  static void TearDownTestSuite() {
    delete ids_;
    delete expected_;
  }

  static absl::StatusOr<std::vector<float>> Run(EngineCluster& cluster,
                                                absl::Duration expert_timeout = kPatience,
                                                const PromptWatch& watch = {}) {
    return PromptRunner(cluster.parts(0), kNumRows, kMinRows).Run(*ids_, expert_timeout, watch);
  }
  static void ExpectSameBits(EngineCluster& cluster, int num_steps = 1) {
    PromptRunner runner(cluster.parts(0), kNumRows, kMinRows);
    for (int step = 0; step < num_steps; ++step) {
      const auto logprobs = runner.Run(*ids_, kPatience);
      ASSERT_TRUE(logprobs.ok()) << logprobs.status();
      EXPECT_EQ(*logprobs, *expected_) << step;
    }
  }

  static std::vector<int32_t>* ids_;
  static std::vector<float>* expected_;
};
std::vector<int32_t>* MicroBatches::ids_ = nullptr;
std::vector<float>* MicroBatches::expected_ = nullptr;

// One frame per micro-batch and layer reaches a shard.
std::vector<InboundFrame> TakeFrames(ShardExchange& shard, size_t num_frames) {
  std::vector<InboundFrame> frames;
  while (frames.size() < num_frames) {
    const std::optional<InboundGroup> group = shard.Receive(Patiently());
    if (!group.has_value()) break;
    frames.insert(frames.end(), group->begin(), group->end());
  }
  EXPECT_EQ(frames.size(), num_frames);
  return frames;
}

// The shard answers nobody until the rows of both are there: so those of the second left while the first waited.
TEST_F(MicroBatches, TheRowsOfBothAreWithTheExpertsAtATime) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  std::thread collecting([&] {
    ShardExchange& exchange = cluster->loopback().shard(0);
    int num_rows = 0;
    for (const InboundFrame& frame : TakeFrames(exchange, /*num_frames=*/2)) {
      num_rows += frame.num_rows;
      // What they are told does not matter here.
      const std::vector<EntryState> states(frame.entries.size(), EntryState::kDone);
      const std::vector<std::byte> results(states.size() * cluster->shard(0).result_bytes());
      exchange.Reply(frame, {.states = states, .results = results});
    }
    EXPECT_EQ(num_rows, kNumRows);
    cluster->AnswerAll();
  });
  EXPECT_TRUE(Run(*cluster).ok());
  collecting.join();
}

TEST_F(MicroBatches, GiveTheSameBitsHoweverExpertsAreSpread) {
  const std::vector<std::vector<ExpertRange>> spreads = {
      {kAll}, {{0, 5}, {5, 11}, {11, 16}}, {kAll, {0, 8}, kAll}};
  for (const std::vector<ExpertRange>& shards : spreads) {
    const auto cluster = EngineCluster::Make({.shards = shards});
    cluster->AnswerAll();
    ExpectSameBits(*cluster, /*num_steps=*/3);
  }
}

TEST_F(MicroBatches, AShardThatDiesWithRowsOfBothInItsHandsChangesNoBit) {
  const auto cluster = EngineCluster::Make({.shards = {{0, 8}, {8, 16}}, .heir_room = 1000});
  cluster->Answer(1);
  std::thread dying([&] {
    TakeFrames(cluster->loopback().shard(0), /*num_frames=*/2);
    cluster->loopback().DisconnectShard(0);
    cluster->directory(0).SetGone(0);
  });
  ExpectSameBits(*cluster);
  dying.join();
}

TEST_F(MicroBatches, ASilentShardIsGivenUpForTheOtherHolder) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}});
  cluster->Answer(1);
  ExpectSameBits(*cluster, /*num_steps=*/2);
}

TEST_F(MicroBatches, HeirsLoadWhatADeadShardHeldOnceForBoth) {
  const auto cluster =
      EngineCluster::Make({.shards = {{0, 5}, {5, 11}, {11, 16}}, .heir_room = 1000});
  cluster->AnswerAll();
  cluster->loopback().DisconnectShard(1);
  cluster->directory(0).SetGone(1);
  ExpectSameBits(*cluster);
  int num_inherited = 0;
  for (int expert = 5; expert < 11; ++expert) {
    int num_holders = 0;
    for (const int shard : {0, 2}) {
      num_holders += cluster->directory(0).Holds(shard, {.layer = 1, .expert = expert});
    }
    EXPECT_LE(num_holders, 1) << expert;
    num_inherited += num_holders;
  }
  EXPECT_GT(num_inherited, 0);
}

TEST_F(MicroBatches, AShardThatFlipsBitsIsConvictedAndNoneOfThemIsKept) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}, .audit_one_in = 1});
  cluster->shard(0).SetHarm(BitFlips(/*one_in=*/50, /*seed=*/2));
  cluster->AnswerAll();
  ExpectSameBits(*cluster, /*num_steps=*/5);
  EXPECT_TRUE(cluster->directory(0).Quarantined()[0]);
  EXPECT_FALSE(cluster->directory(0).Quarantined()[1]);
}

// What one of them waits for in vain ends both, and shards drop the rows of both.
TEST_F(MicroBatches, AFailureEndsBothAndTheNextStepWorks) {
  const auto cluster = EngineCluster::Make({.shards = {{0, 8}, {8, 16}}});
  cluster->Answer(0);
  PromptRunner runner(cluster->parts(0), kNumRows, kMinRows);
  const auto failed = runner.Run(*ids_, absl::Milliseconds(200));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("layer 1"));
  EXPECT_FALSE(cluster->loopback().shard(1).Receive(absl::Now()).has_value());
  cluster->Answer(1);
  const auto logprobs = runner.Run(*ids_, kPatience);
  ASSERT_TRUE(logprobs.ok()) << logprobs.status();
  EXPECT_EQ(*logprobs, *expected_);
}

TEST_F(MicroBatches, AStepThatNobodyWantsEndsAndTheSilentShardDropsItsRows) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto given_up = Run(*cluster, kPatience, {.abandoned = [] { return true; }});
  EXPECT_EQ(given_up.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(cluster->loopback().shard(0).Receive(absl::Now()).has_value());
  cluster->AnswerAll();
  ExpectSameBits(*cluster);
}

}  // namespace
}  // namespace orrery
