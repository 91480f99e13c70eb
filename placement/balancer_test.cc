#include "placement/balancer.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kLayer = 1;

std::vector<std::pair<int, int>> Sorted(const std::vector<ExpertKey>& keys) {
  std::vector<std::pair<int, int>> sorted;
  for (const ExpertKey& key : keys) sorted.emplace_back(key.layer, key.expert);
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}
std::vector<LayerExperts> AsHeld(const std::vector<ExpertKey>& keys) {
  std::vector<LayerExperts> held;
  for (const auto& [layer, expert] : Sorted(keys)) {
    if (held.empty() || held.back().layer != layer) held.push_back({.layer = layer, .experts = {}});
    held.back().experts.push_back(expert);
  }
  return held;
}

// Two experts at each of two shards, one of them hot, and an empty shard with room.
BalanceInput OneHotExpert() {
  return {.rows = {{.layer = kLayer, .rows = {6000, 1000, 1000, 1000}}},
          .shards = {{.name = "a", .kept = {{.layer = kLayer, .experts = {0, 1}}}},
                     {.name = "b", .kept = {{.layer = kLayer, .experts = {2, 3}}}},
                     {.name = "c", .room = 2}}};
}

TEST(Imbalance, IsTheFullestByTheMeanSummedOverLayers) {
  EXPECT_EQ(Imbalance({}), 0);
  EXPECT_EQ(Imbalance({{0, 0}}), 0);
  EXPECT_DOUBLE_EQ(Imbalance({{10, 10}}), 1);
  EXPECT_DOUBLE_EQ(Imbalance({{30, 10}}), 1.5);
  EXPECT_DOUBLE_EQ(Imbalance({{30, 10}, {0, 40}}), 70.0 / 40);
}

TEST(Balance, CopiesTheHotExpertWhereThereIsLeast) {
  const BalancePlan plan = Balance(OneHotExpert());
  EXPECT_TRUE(plan.is_move);
  ASSERT_EQ(plan.copies.size(), 3u);
  EXPECT_THAT(plan.copies[0], IsEmpty());
  EXPECT_THAT(plan.copies[1], IsEmpty());
  ASSERT_FALSE(plan.copies[2].empty());
  EXPECT_EQ(plan.copies[2][0].expert, 0);
  EXPECT_DOUBLE_EQ(plan.before, 7000.0 / 3000);
  EXPECT_LT(plan.after, 1.4);
  EXPECT_THAT(
      plan.reason,
      HasSubstr("in layer 1 a had 2.33 times the mean rows; 2 copies more, 0 fewer, first of "
                "layer 1, expert 0 (67 % of the layer's rows) at c"));
}

TEST(Balance, WithoutRoomNothingMoves) {
  BalanceInput input = OneHotExpert();
  input.shards[2].room = 0;
  const BalancePlan plan = Balance(input);
  EXPECT_FALSE(plan.is_move);
  EXPECT_THAT(plan.copies, ElementsAre(IsEmpty(), IsEmpty(), IsEmpty()));
  EXPECT_EQ(plan.before, plan.after);
}

TEST(Balance, WithoutShardsOrRowsThereIsNothingToDo) {
  EXPECT_FALSE(Balance({}).is_move);
  BalanceInput input = OneHotExpert();
  input.rows.clear();
  EXPECT_FALSE(Balance(input).is_move);
}

// So few rows are chance.
TEST(Balance, DoesNotJudgeByAFewRows) {
  BalanceInput input = OneHotExpert();
  for (double& rows : input.rows[0].rows) rows /= 100;
  const BalancePlan plan = Balance(input);
  EXPECT_FALSE(plan.is_move);
  EXPECT_THAT(plan.reason, HasSubstr("30 rows for a shard and layer are too few"));
}

TEST(Balance, LeavesItAsItIsWhenTheGainIsSmall) {
  BalanceInput input = {.rows = {{.layer = kLayer, .rows = {1030, 1000, 1000, 1000}}},
                        .shards = {{.name = "a", .room = 4, .kept = {{kLayer, {0, 1}}}},
                                   {.name = "b", .room = 4, .kept = {{kLayer, {2, 3}}}}}};
  const BalancePlan plan = Balance(input);
  EXPECT_FALSE(plan.is_move);
  EXPECT_THAT(plan.reason, HasSubstr("the best placement would have 1.0"));
}

// The heat has gone from expert 3 to expert 0.
TEST(Balance, MovesACopyWhereThereIsRoomForOneOnly) {
  BalanceInput input = OneHotExpert();
  input.shards[2].room = 1;
  input.shards[2].copies = {{.layer = kLayer, .experts = {3}}};
  const BalancePlan plan = Balance(input);
  EXPECT_TRUE(plan.is_move);
  EXPECT_THAT(Sorted(plan.copies[2]), ElementsAre(std::pair(kLayer, 0)));
  EXPECT_THAT(plan.reason, HasSubstr("1 copy more, 1 fewer"));
}

// Room that has gone to experts of a shard that is gone.
TEST(Balance, KeepsOfWhatIsThereWhatThereIsRoomFor) {
  BalanceInput input = OneHotExpert();
  input.rows[0].rows = {10, 20, 30, 40};  // too few to judge by
  input.shards[2].copies = {{.layer = kLayer, .experts = {0, 1, 3}}};
  const BalancePlan plan = Balance(input);
  EXPECT_FALSE(plan.is_move);
  EXPECT_THAT(Sorted(plan.copies[2]), ElementsAre(std::pair(kLayer, 1), std::pair(kLayer, 3)));
}

// Groups are {0, 1}, {2, 3} and {4, 5}; b and c are alike but for who holds expert 1, which no row visits.
TEST(Balance, OfEqualsTakesTheShardThatHoldsExpertsOfTheSameGroup) {
  for (const int mate : {1, 2}) {
    BalanceInput input = {.rows = {{.layer = kLayer, .rows = {6000, 0, 500, 500, 500, 500}}},
                          .num_groups = 3,
                          .shards = {{.name = "a", .kept = {{kLayer, {0}}}},
                                     {.name = "b", .room = 1, .kept = {{kLayer, {2, 3}}}},
                                     {.name = "c", .room = 1, .kept = {{kLayer, {4, 5}}}}}};
    input.shards[mate].kept[0].experts.push_back(1);
    EXPECT_THAT(Balance(input).reason, HasSubstr(absl::StrCat(" at ", input.shards[mate].name)));
  }
}

class RandomLoads : public ::testing::TestWithParam<int> {
 protected:
  // Homes as the default placement has them, spares, skewed rows, and copies of an earlier plan for other rows.
  BalanceInput Draw() {
    const int num_shards = 2 + static_cast<int>(random_() % 7), num_layers = 1 + random_() % 4;
    std::vector<bool> is_spare(num_shards);
    for (int s = 1; s < num_shards; ++s) is_spare[s] = random_() % 4 == 0;
    const std::vector<ExpertRange> homes = HomePlacement(kNumExperts, is_spare);
    BalanceInput input = {.rows = {}, .num_groups = 4, .shards = {}};
    for (int s = 0; s < num_shards; ++s) {
      ShardHoldings& shard = input.shards.emplace_back();
      shard.name = absl::StrCat("expert-", s);
      shard.room = static_cast<int>(random_() % 12);
      for (int layer = 0; layer < num_layers; ++layer) {
        LayerExperts& kept = shard.kept.emplace_back();
        kept.layer = layer;
        for (int e = homes[s].begin; e < homes[s].end; ++e) kept.experts.push_back(e);
      }
    }
    for (int layer = 0; layer < num_layers; ++layer) input.rows.push_back(DrawRows(layer));
    return input;
  }
  LayerRows DrawRows(int layer) {
    LayerRows rows = {.layer = layer, .rows = std::vector<double>(kNumExperts)};
    std::vector<int> order(kNumExperts);
    for (int e = 0; e < kNumExperts; ++e) order[e] = e;
    std::shuffle(order.begin(), order.end(), random_);
    for (int e = 0; e < kNumExperts; ++e) rows.rows[order[e]] = 20'000.0 / (1 + e);  // Zipf
    return rows;
  }
  static constexpr int kNumExperts = 24;
  std::mt19937 random_{static_cast<uint32_t>(GetParam())};
};

TEST_P(RandomLoads, ThePlanIsNeverWorseAndNeverBeyondTheRoomAndNamesNothingTwice) {
  const BalanceInput input = Draw();
  const BalancePlan plan = Balance(input);
  EXPECT_LE(plan.after, plan.before);
  EXPECT_GE(plan.after, 1 - 1e-9);
  EXPECT_TRUE(!plan.is_move || plan.after <= 0.95 * plan.before);
  ASSERT_EQ(plan.copies.size(), input.shards.size());
  for (size_t s = 0; s < plan.copies.size(); ++s) {
    EXPECT_LE(static_cast<int>(plan.copies[s].size()), input.shards[s].room);
    auto keys = Sorted(plan.copies[s]);
    EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
    for (const auto& [layer, expert] : keys) {
      const std::vector<int>& kept = input.shards[s].kept[layer].experts;
      EXPECT_EQ(std::count(kept.begin(), kept.end(), expert), 0) << "it is at home there";
    }
  }
}

TEST_P(RandomLoads, TheOrderOfShardsAndLayersChangesNothing) {
  BalanceInput input = Draw();
  const BalancePlan plan = Balance(input);
  std::reverse(input.shards.begin(), input.shards.end());
  std::reverse(input.rows.begin(), input.rows.end());
  BalancePlan reversed = Balance(input);
  std::reverse(reversed.copies.begin(), reversed.copies.end());
  EXPECT_EQ(plan.reason, reversed.reason);
  EXPECT_EQ(plan.after, reversed.after);
  for (size_t s = 0; s < plan.copies.size(); ++s) {
    EXPECT_EQ(Sorted(plan.copies[s]), Sorted(reversed.copies[s])) << s;
  }
}

TEST_P(RandomLoads, WhenNothingHasChangedNothingMoves) {
  BalanceInput input = Draw();
  const BalancePlan plan = Balance(input);
  for (size_t s = 0; s < plan.copies.size(); ++s) input.shards[s].copies = AsHeld(plan.copies[s]);
  // A little noise, as the next count has it.
  for (LayerRows& layer : input.rows) {
    for (double& rows : layer.rows)
      rows *= 0.99 + 0.02 * static_cast<double>(random_() % 100) / 100;
  }
  const BalancePlan again = Balance(input);
  EXPECT_FALSE(again.is_move) << again.reason;
  for (size_t s = 0; s < plan.copies.size(); ++s) {
    EXPECT_EQ(Sorted(plan.copies[s]), Sorted(again.copies[s])) << s;
  }
}

TEST_P(RandomLoads, WhenTheHeatMovesTheCopiesFollow) {
  BalanceInput input = Draw();
  const BalancePlan plan = Balance(input);
  for (size_t s = 0; s < plan.copies.size(); ++s) input.shards[s].copies = AsHeld(plan.copies[s]);
  for (LayerRows& layer : input.rows) layer = DrawRows(layer.layer);
  const BalancePlan again = Balance(input);
  EXPECT_LE(again.after, again.before);
  for (ShardHoldings& shard : input.shards) shard.copies = {};
  EXPECT_LE(0.95 * again.after, Balance(input).before);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomLoads, ::testing::Range(1, 101));

}  // namespace
}  // namespace orrery
