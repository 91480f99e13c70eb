#include "services/attention/expert_directory.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kLayer = 1;

ModelConfig FourExpertsInOneLayer() {
  ModelConfig config;
  config.num_layers = 2;
  config.layer_is_moe = {false, true};
  config.num_experts = 4;
  return config;
}

// a and b are homes, c is a spare.
class ExpertDirectoryTest : public ::testing::Test {
 protected:
  void Claim(int shard, std::vector<int> experts, std::optional<int> room) {
    directory_.SetClaim(shard, {.held = {{.layer = kLayer, .experts = std::move(experts)}},
                                .is_draining = false,
                                .room = room});
  }
  ExpertDirectory directory_{
      FourExpertsInOneLayer(), {"a", "b", "c"}, /*with_mtp=*/false, {false, false, true}};
};

TEST_F(ExpertDirectoryTest, ASpareThatIsNotThereIsMissedByNobody) {
  Claim(0, {0, 1}, 1);
  EXPECT_EQ(directory_.Uncovered(1), "");  // b has not said yet
  Claim(1, {2, 3}, 1);
  EXPECT_EQ(directory_.MissingBeyondHeirs(), "");
  EXPECT_THAT(
      directory_.Uncovered(1),
      HasSubstr("without a, 2 experts would have no holder, and the other shards may load 1"));
  Claim(2, {}, 1);
  EXPECT_EQ(directory_.Uncovered(1), "");
  directory_.SetGone(2);
  EXPECT_THAT(directory_.Uncovered(1), HasSubstr("may load 1 of them"));
}

TEST_F(ExpertDirectoryTest, AShardWhoseConnectionWasMadeAnewIsBarredUntilItHasDescribedItself) {
  std::vector<int> asked;
  directory_.SetAsker([&](int shard) { asked.push_back(shard); });
  Claim(0, {0, 1}, 0);
  directory_.OnReconnects(0, 0);
  EXPECT_FALSE(directory_.Barred()[0]);
  for (int i = 0; i < 2; ++i) directory_.OnReconnects(0, 1);
  EXPECT_TRUE(directory_.Barred()[0]);
  EXPECT_EQ(asked, std::vector<int>{0});
  const uint64_t version = directory_.version();
  Claim(0, {0, 1}, 0);  // the same as before
  EXPECT_FALSE(directory_.Barred()[0]);
  EXPECT_NE(directory_.version(), version) << "or who waits would not look again";
}

// For another rank, it may be; it declines if it is not.
TEST_F(ExpertDirectoryTest, AShardWithoutRoomIsAHeirWhileItLoads) {
  Claim(0, {0, 1}, 0);
  Claim(1, {2, 3}, 0);
  EXPECT_THAT(directory_.Heirs({kLayer, 0}, /*or_loading=*/true), IsEmpty());
  directory_.SetClaim(2, {.held = {}, .room = 0, .num_loading = 1});
  EXPECT_THAT(directory_.Heirs({kLayer, 0}, /*or_loading=*/true), ElementsAre(2));
  EXPECT_THAT(directory_.Heirs({kLayer, 0}), IsEmpty());
  Claim(2, {0}, 0);
  EXPECT_THAT(directory_.Heirs({kLayer, 0}, /*or_loading=*/true), IsEmpty());
}

TEST_F(ExpertDirectoryTest, WhatIsBeingLoadedIsNotMissing) {
  Claim(0, {0, 1}, 1);
  Claim(1, {2, 3}, 1);
  directory_.SetGone(0);
  EXPECT_NE(directory_.MissingBeyondHeirs(), "");
  directory_.SetClaim(
      1, {.held = {{.layer = kLayer, .experts = {2, 3}}}, .room = 0, .num_loading = 1});
  directory_.SetClaim(2, {.held = {}, .room = 0, .num_loading = 1});
  EXPECT_EQ(directory_.MissingBeyondHeirs(), "");
}

TEST_F(ExpertDirectoryTest, WhoIsConvictedIsToldToAllShardsUntilAnotherProcessIsThere) {
  std::vector<int> asked;
  directory_.SetAsker([&](int shard) { asked.push_back(shard); });
  directory_.SetClaim(1, {.held = {}, .incarnation = 77});
  EXPECT_THAT(directory_.Convicted(), IsEmpty());
  directory_.Quarantine(1, "it answers wrongly");
  EXPECT_THAT(asked, ElementsAre(0, 1, 2));
  EXPECT_THAT(directory_.Convicted(), ElementsAre(77u));
  directory_.SetClaim(1, {.held = {}, .incarnation = 78});
  EXPECT_THAT(directory_.Convicted(), IsEmpty());
}

TEST_F(ExpertDirectoryTest, HoldersOfAnExpertAreAskedInTurn) {
  Claim(0, {0, 1}, 0);
  Claim(1, {2, 3}, 0);
  Claim(2, {1}, 0);
  const std::vector<int> rows = {0, 2, 1, 0};
  std::vector<int> picked(4);
  std::vector<int> num_asked(3);
  for (int step = 0; step < 10; ++step) {
    directory_.PickHolders({.layer = kLayer, .rows = rows}, {true, true, true}, picked);
    EXPECT_EQ(picked[2], 1);
    EXPECT_EQ(picked[0], kNoShard);
    ++num_asked[picked[1]];
  }
  EXPECT_EQ(num_asked, (std::vector<int>{5, 0, 5}));
}

}  // namespace
}  // namespace orrery
