#include "placement/placement.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;

std::vector<int> Borders(PlacementSize size) {
  std::vector<int> borders = {0};
  for (const ExpertRange& range : DefaultPlacement(size)) {
    EXPECT_EQ(range.begin, borders.back());
    borders.push_back(range.end);
  }
  return borders;
}

TEST(DefaultPlacement, BalancesWhereNothingDivides) {
  EXPECT_THAT(Borders({24, 5}), ElementsAre(0, 4, 9, 14, 19, 24));
  EXPECT_THAT(Borders({10, 3}), ElementsAre(0, 3, 6, 10));
}

TEST(DefaultPlacement, GivesEverythingToOneShard) {
  EXPECT_THAT(Borders({16, 1}), ElementsAre(0, 16));
}

TEST(DefaultPlacement, LeavesShardsEmptyWhenThereAreMoreShardsThanExperts) {
  EXPECT_THAT(Borders({3, 5}), ElementsAre(0, 0, 1, 1, 2, 3));
  EXPECT_THAT(Borders({0, 2}), ElementsAre(0, 0, 0));
}

TEST(DefaultPlacement, CoversAllExpertsOnceAndDiffersByAtMostOneForManySizes) {
  for (int num_experts = 0; num_experts <= 70; ++num_experts) {
    for (int num_shards = 1; num_shards <= 20; ++num_shards) {
      int smallest = num_experts, largest = 0, sum = 0;
      for (const ExpertRange& range : DefaultPlacement({num_experts, num_shards})) {
        smallest = std::min(smallest, range.size());
        largest = std::max(largest, range.size());
        sum += range.size();
      }
      EXPECT_EQ(sum, num_experts);
      EXPECT_LE(largest - smallest, 1) << num_experts << " experts on " << num_shards;
    }
  }
}

TEST(DefaultPlacement, FollowsGroupsWhenGroupsAndShardsDivide) {
  // 3 groups of 8 on 9 shards: three shards to each group, though 24 / 9 is no whole number.
  const std::vector<int> borders = Borders({24, 9});
  EXPECT_THAT(borders, ::testing::Contains(8));
  EXPECT_THAT(borders, ::testing::Contains(16));
  // 6 groups of 5 on 3 shards: two whole groups each.
  EXPECT_THAT(Borders({30, 3}), ElementsAre(0, 10, 20, 30));
}

TEST(HomePlacement, LeavesSparesEmptyAndGivesTheOthersWhatTheyWouldHaveAlone) {
  const std::vector<ExpertRange> homes = HomePlacement(10, {true, false, false, true, false});
  std::vector<std::pair<int, int>> found;
  for (const ExpertRange& home : homes) found.emplace_back(home.begin, home.end);
  EXPECT_THAT(found, ElementsAre(std::pair(0, 0), std::pair(0, 3), std::pair(3, 6), std::pair(0, 0),
                                 std::pair(6, 10)));
}

TEST(HolderTable, KnowsNobodyAtFirst) {
  const HolderTable table(2);
  EXPECT_FALSE(table.Holds(0, {3, 1}));
  EXPECT_EQ(table.Pick({3, 1}, {true, true}), kNoShard);
}

TEST(HolderTable, PicksAUsableHolderAndSpreadsReplicasByExpert) {
  HolderTable table(3);
  for (int shard : {2, 0}) table.SetHeld(shard, {{.layer = 1, .experts = {4, 5}}});
  const std::vector<bool> all = {true, true, true};
  EXPECT_EQ(table.Pick({1, 4}, all), 0);
  EXPECT_EQ(table.Pick({1, 5}, all), 2);
  EXPECT_EQ(table.Pick({1, 5}, {true, true, false}), 0);
  EXPECT_EQ(table.Pick({1, 5}, {false, true, false}), kNoShard);
  EXPECT_EQ(table.Pick({2, 5}, all), kNoShard);
}

TEST(HolderTable, ReplacesWhatAShardHeldBefore) {
  HolderTable table(1);
  table.SetHeld(0, {{.layer = 1, .experts = {0, 1}}});
  table.SetHeld(0, {{.layer = 1, .experts = {1, 2}}});
  EXPECT_FALSE(table.Holds(0, {1, 0}));
  EXPECT_TRUE(table.Holds(0, {1, 2}));
  table.SetHeld(0, {});
  EXPECT_FALSE(table.Holds(0, {1, 2}));
}

TEST(HolderTable, ForgetsOneExpertWhenTheShardDeniesIt) {
  HolderTable table(1);
  table.SetHeld(0, {{.layer = 1, .experts = {0, 1}}});
  table.Remove(0, {1, 0});
  table.Remove(0, {7, 0});
  EXPECT_FALSE(table.Holds(0, {1, 0}));
  EXPECT_TRUE(table.Holds(0, {1, 1}));
}

TEST(HolderTable, LearnsOneExpertWhenTheShardHasLoadedIt) {
  HolderTable table(3);
  table.SetHeld(2, {{.layer = 1, .experts = {0}}});
  table.Add(0, {1, 0});
  table.Add(0, {1, 0});
  EXPECT_THAT(table.Holders({1, 0}), ElementsAre(0, 2));
  EXPECT_THAT(table.Holders({1, 1}), ElementsAre());
}

TEST(MissingExperts, NamesWhatNoUsableShardHolds) {
  HolderTable table(2);
  table.SetHeld(0, {{.layer = 3, .experts = {0, 1, 2}}, {.layer = 4, .experts = {0, 1, 2}}});
  table.SetHeld(1, {{.layer = 3, .experts = {3, 5}}, {.layer = 4, .experts = {3, 4, 5}}});
  const std::vector<int> layers = {3, 4};
  EXPECT_EQ(DescribeMissing(table.MissingExperts(layers, 6, {true, true})),
            "layer 3: expert 4 has no holder");
  EXPECT_EQ(DescribeMissing(table.MissingExperts(layers, 6, {true, false})),
            "layers 3-4: experts 3-5 have no holder");
  EXPECT_EQ(DescribeMissing(table.MissingExperts(layers, 8, {true, true})),
            "layer 3: experts 4, 6-7 have no holder; layer 4: experts 6-7 have no holder");
  EXPECT_EQ(DescribeMissing(table.MissingExperts(layers, 3, {true, true})), "");
}

}  // namespace
}  // namespace orrery
