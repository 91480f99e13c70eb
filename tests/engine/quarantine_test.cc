// Shards that answer wrongly, and say nothing of it: found out by answers that differ, quarantined, and no
// bit of what was compared before it was used is wrong.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/expert/bit_flips.h"
#include "tests/engine/engine_fixture.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

constexpr int kNumSteps = 5;

// Of memory with a bit that is stuck: wrong in the same way each time.
void SpoilFirstByte(absl::Span<std::byte> result) { result[0] ^= std::byte{1}; }

class Quarantine : public EngineFixture {
 protected:
  // What a shard with everything answers, undisturbed.
  static void SetUpTestSuite() {
    EngineFixture::SetUpTestSuite();
    const auto cluster = EngineCluster::Make({.shards = {kAll}});
    cluster->AnswerAll();
    ids_ = new std::vector<int32_t>(RandomIds(cluster->config(), 23, /*seed=*/7));
    expected_ = new std::vector<float>(*RunPrompt(cluster->parts(0), *ids_, kPatience));
  }
  static void TearDownTestSuite() {
    delete ids_;
    delete expected_;
    EngineFixture::TearDownTestSuite();
  }

  static void ExpectSameBits(EngineCluster& cluster) {
    cluster.AnswerAll();
    PromptRunner runner(cluster.parts(0), static_cast<int>(ids_->size()));
    for (int step = 0; step < kNumSteps; ++step) {
      const auto logprobs = runner.Run(*ids_, kPatience);
      ASSERT_TRUE(logprobs.ok()) << logprobs.status();
      EXPECT_EQ(*logprobs, *expected_) << step;
    }
  }
  static bool IsQuarantined(EngineCluster& cluster, int shard) {
    return cluster.directory(0).Quarantined()[shard];
  }

  static std::vector<int32_t>* ids_;
  static std::vector<float>* expected_;
};
std::vector<int32_t>* Quarantine::ids_ = nullptr;
std::vector<float>* Quarantine::expected_ = nullptr;

TEST_F(Quarantine, AuditsOfSoundShardsChangeNoBitAndFindNothing) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, {0, 8}}, .audit_one_in = 1});
  ExpectSameBits(*cluster);
  for (const int shard : {0, 1}) {
    EXPECT_GT(cluster->directory(0).counters(shard).compared_answers, 0);
    EXPECT_EQ(cluster->directory(0).counters(shard).differing_answers, 0);
    EXPECT_EQ(cluster->directory(0).Doubt(shard), "");
  }
}

// Nobody else holds what it holds. It contradicts itself, and heirs load its experts.
TEST_F(Quarantine, AShardThatFlipsBitsIsFoundAndItsExpertsGoToHeirs) {
  const auto cluster = EngineCluster::Make(
      {.shards = {{0, 5}, {5, 11}, {11, 16}}, .audit_one_in = 1, .heir_room = 1000});
  cluster->shard(1).SetHarm(BitFlips(/*one_in=*/100, /*seed=*/1));
  ExpectSameBits(*cluster);
  EXPECT_TRUE(IsQuarantined(*cluster, 1));
  EXPECT_FALSE(IsQuarantined(*cluster, 0));
  EXPECT_FALSE(IsQuarantined(*cluster, 2));
  EXPECT_THAT(cluster->directory(0).Doubt(1), HasSubstr("different answers when asked"));
  EXPECT_FALSE(cluster->directory(0).Holds(1, {.layer = 1, .expert = 5}));
}

TEST_F(Quarantine, OfTwoHoldersTheOneThatFlipsBitsIsFound) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}, .audit_one_in = 1});
  cluster->shard(0).SetHarm(BitFlips(/*one_in=*/50, /*seed=*/2));
  ExpectSameBits(*cluster);
  EXPECT_TRUE(IsQuarantined(*cluster, 0));
  EXPECT_FALSE(IsQuarantined(*cluster, 1));
}

TEST_F(Quarantine, AThirdHolderOutvotesTheOneThatIsWrongEachTime) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll, kAll}, .audit_one_in = 1});
  cluster->shard(2).SetHarm(SpoilFirstByte);
  ExpectSameBits(*cluster);
  EXPECT_TRUE(IsQuarantined(*cluster, 2));
  EXPECT_THAT(cluster->directory(0).Doubt(2), HasSubstr("2 others agree"));
}

TEST_F(Quarantine, WhereThereIsNoThirdHolderAnHeirDecides) {
  const auto cluster =
      EngineCluster::Make({.shards = {kAll, kAll, {0, 1}}, .audit_one_in = 1, .heir_room = 1000});
  cluster->shard(0).SetHarm(SpoilFirstByte);
  ExpectSameBits(*cluster);
  EXPECT_TRUE(IsQuarantined(*cluster, 0));
  EXPECT_FALSE(IsQuarantined(*cluster, 1));
}

// Each sticks to its own, and nobody else is there. The rank goes on, and says so.
TEST_F(Quarantine, TwoThatDifferEachTimeAreBothSuspectedWhenThereIsNoThird) {
  const auto cluster = EngineCluster::Make({.shards = {kAll, kAll}, .audit_one_in = 1});
  cluster->shard(0).SetHarm(SpoilFirstByte);
  cluster->AnswerAll();
  ASSERT_TRUE(RunPrompt(cluster->parts(0), *ids_, kPatience).ok());
  for (const int shard : {0, 1}) {
    EXPECT_FALSE(IsQuarantined(*cluster, shard));
    EXPECT_THAT(cluster->directory(0).Doubt(shard), HasSubstr("suspected"));
  }
  cluster->directory(0).Quarantine(0, "it lies");
  EXPECT_EQ(cluster->directory(0).Doubt(1), "");
}

// With no heir either: no answer is better than a wrong one.
TEST_F(Quarantine, WhatNobodyElseHoldsOrLoadsIsNotAskedOfAQuarantinedShard) {
  const auto cluster = EngineCluster::Make({.shards = {{0, 8}, {8, 16}}, .audit_one_in = 1});
  cluster->shard(1).SetHarm(BitFlips(/*one_in=*/2, /*seed=*/3));
  cluster->AnswerAll();
  const auto failed = RunPrompt(cluster->parts(0), *ids_, absl::Milliseconds(300));
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable) << failed.status();
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("no holder"));
}

TEST_F(Quarantine, LastsUntilAnotherProcessAnswersInItsPlace) {
  const auto cluster = EngineCluster::Make({.shards = {{0, 8}, {8, 16}}});
  ExpertDirectory& directory = cluster->directory(0);
  const ShardClaim claim = {.held = cluster->shard(1).held(), .incarnation = 5};
  directory.SetClaim(1, claim);
  directory.Quarantine(1, "it lies");
  directory.SetClaim(1, claim);
  directory.SetGone(1);
  directory.SetClaim(1, claim);
  directory.Add(1, {.layer = 1, .expert = 8});
  EXPECT_FALSE(directory.Holds(1, {.layer = 1, .expert = 8}));
  EXPECT_EQ(directory.Doubt(1), "it lies");
  directory.SetClaim(1, {.held = claim.held, .incarnation = 6});
  EXPECT_TRUE(directory.Holds(1, {.layer = 1, .expert = 8}));
  EXPECT_EQ(directory.Doubt(1), "");
}

// One visit in seven is audited, so wrong results get into the cache before the shard is found. Afterwards
// nothing of them is left: neither in known prefixes, nor in answers under way.
TEST_F(Quarantine, WhatAConvictedShardHadAPartInIsComputedAgain) {
  const auto cluster = EngineCluster::Make(
      {.shards = {{0, 5}, {5, 11}, {11, 16}}, .audit_one_in = 7, .heir_room = 1000});
  cluster->shard(1).SetHarm(BitFlips(/*one_in=*/40, /*seed=*/4));
  cluster->AnswerAll();
  const auto engine = Start(*cluster);
  for (int i = 0; i < 20 && !IsQuarantined(*cluster, 1); ++i) {
    TakeAll(*Submit(*engine, Request(0)));
  }
  ASSERT_TRUE(IsQuarantined(*cluster, 1));
  const Generated answer = TakeAll(*Submit(*engine, Request(0)));
  EXPECT_EQ(answer.ids, (*problems_)[0].reference_ids);
  const auto sound = EngineCluster::Make({.shards = {kAll}});
  sound->AnswerAll();
  const auto other_engine = Start(*sound);
  EXPECT_TRUE(answer.SameBits(TakeAll(*Submit(*other_engine, Request(0)))));
}

}  // namespace
}  // namespace orrery
