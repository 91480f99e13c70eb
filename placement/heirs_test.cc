#include "placement/heirs.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;

constexpr int kNumExperts = 256;
constexpr int kNumLayers = 20;

std::vector<std::string> Names(int num_shards) {
  std::vector<std::string> names;
  for (int i = 0; i < num_shards; ++i) names.push_back(absl::StrCat("expert-", i));
  return names;
}

template <typename Function>
void ForEachExpert(const Function& function) {
  for (int layer = 0; layer < kNumLayers; ++layer) {
    for (int expert = 0; expert < kNumExperts; ++expert) {
      function(ExpertKey{.layer = layer, .expert = expert});
    }
  }
}

TEST(HeirOrder, NamesEveryShardOnceAndTheSameWhateverTheirOrder) {
  std::vector<std::string> names = Names(5), reversed(names.rbegin(), names.rend());
  ForEachExpert([&](ExpertKey key) {
    const std::vector<int> order = HeirOrder(key, names), other = HeirOrder(key, reversed);
    ASSERT_THAT(order, ::testing::UnorderedElementsAre(0, 1, 2, 3, 4));
    for (size_t i = 0; i < order.size(); ++i) ASSERT_EQ(names[order[i]], reversed[other[i]]);
  });
  EXPECT_TRUE(HeirOrder({}, {}).empty());
}

// A change here lets two versions of Orrery in one cluster name different heirs: waste, while it lasts.
TEST(HeirOrder, IsFixedForAllTime) {
  EXPECT_THAT(HeirOrder({.layer = 3, .expert = 9}, Names(5)), ElementsAre(4, 0, 1, 3, 2));
  EXPECT_THAT(HeirOrder({.layer = 60, .expert = 255}, Names(5)), ElementsAre(0, 3, 1, 2, 4));
}

TEST(HeirOrder, SpreadsTheExpertsEvenly) {
  const std::vector<std::string> names = Names(8);
  std::map<int, int> num_heirs;
  ForEachExpert([&](ExpertKey key) { ++num_heirs[HeirOrder(key, names)[0]]; });
  const int fair = kNumLayers * kNumExperts / 8;  // 640; one standard deviation is 24
  for (int shard = 0; shard < 8; ++shard) EXPECT_NEAR(num_heirs[shard], fair, 120) << shard;
}

// Whoever else is there or not: between two shards the same one goes first.
TEST(HeirOrder, AShardThatLeavesMovesNothingBetweenOthers) {
  const std::vector<std::string> all = Names(6);
  const std::vector<std::string> fewer(all.begin(), all.end() - 1);
  ForEachExpert([&](ExpertKey key) {
    std::vector<int> order = HeirOrder(key, all);
    std::erase(order, 5);
    ASSERT_EQ(order, HeirOrder(key, fewer));
  });
}

TEST(NeededRoom, IsTheOthersPartOfWhatTheFailedHold) {
  EXPECT_EQ(NeededRoom(100, 1, 0), 0);
  EXPECT_EQ(NeededRoom(100, 2, 1), 100);
  EXPECT_EQ(NeededRoom(100, 4, 1), 34);
  EXPECT_EQ(NeededRoom(100, 4, 2), 100);
  EXPECT_EQ(NeededRoom(100, 2, 2), 0);  // nobody is left who could
}

// 12 experts in two layers, on three shards with four of each.
class FindUncoveredTest : public ::testing::Test {
 protected:
  FindUncoveredTest() {
    for (int shard = 0; shard < 3; ++shard) Hold(shard, {4 * shard, 4 * shard + 4});
  }
  void Hold(int shard, ExpertRange range) {
    std::vector<LayerExperts> held;
    for (const int layer : kLayers) {
      held.push_back({.layer = layer, .experts = {}});
      for (int e = range.begin; e < range.end; ++e) held.back().experts.push_back(e);
    }
    holders_.SetHeld(shard, held);
  }
  std::optional<Uncovered> Find(int max_failed_shards, const std::vector<int>& room) const {
    return FindUncovered(holders_, {.layers = kLayers,
                                    .num_experts = 12,
                                    .max_failed_shards = max_failed_shards,
                                    .room = room});
  }
  const std::vector<int> kLayers = {1, 2};
  HolderTable holders_{3};
};

TEST_F(FindUncoveredTest, NoShardMayFail) { EXPECT_FALSE(Find(0, {0, 0, 0}).has_value()); }

TEST_F(FindUncoveredTest, OneMayFailWhenTheOthersHaveRoomForItsExperts) {
  EXPECT_FALSE(Find(1, {4, 4, 4}).has_value());
  const auto uncovered = Find(1, {4, 4, 3});
  ASSERT_TRUE(uncovered.has_value());
  EXPECT_THAT(uncovered->failed_shards, ElementsAre(0));
  EXPECT_EQ(uncovered->num_experts, 8);
  EXPECT_EQ(uncovered->room, 7);
}

TEST_F(FindUncoveredTest, NamesTheWorstChoice) {
  const auto uncovered = Find(1, {0, 9, 0});
  ASSERT_TRUE(uncovered.has_value());
  EXPECT_THAT(uncovered->failed_shards, ElementsAre(1));
  EXPECT_EQ(uncovered->room, 0);
}

TEST_F(FindUncoveredTest, TwoMayFailWhenOneHasRoomForAllOfTheirs) {
  EXPECT_FALSE(Find(2, {16, 16, 16}).has_value());
  EXPECT_TRUE(Find(2, {16, 15, 16}).has_value());
  EXPECT_TRUE(Find(3, {16, 16, 16}).has_value());
  EXPECT_TRUE(Find(9, {16, 16, 16}).has_value());  // more than there are
}

TEST_F(FindUncoveredTest, ASecondHolderNeedsNoRoom) {
  Hold(0, {0, 12});
  EXPECT_TRUE(Find(1, {0, 0, 0}).has_value());  // shard 0 holds its own four alone
  Hold(1, {0, 12});
  EXPECT_FALSE(Find(1, {0, 0, 0}).has_value());
}

TEST_F(FindUncoveredTest, WhatNobodyHoldsNowIsUncoveredWhoeverFails) {
  Hold(2, {8, 11});
  EXPECT_EQ(Find(0, {0, 0, 0})->num_experts, 2);
}

}  // namespace
}  // namespace orrery
