#include "exchange/plan.h"

#include <random>

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(Plan, IsEmptyWithoutRows) {
  const Plan plan = PlanRows({0, 4}, {}, {0, 1});
  EXPECT_TRUE(plan.dispatch.empty());
  EXPECT_TRUE(plan.unheld.empty());
}

TEST(Plan, GroupsByPeerAndSortsByRowThenExpert) {
  // Two rows, three experts each; experts 0..3 live at peers 5, 2, nobody, 5.
  const std::vector<int> holders = {5, 2, kNoPeer, 5};
  const Plan plan = PlanRows({2, 3}, {3, 1, 0, 2, 0, 1}, holders);
  ASSERT_EQ(plan.dispatch.size(), 2u);
  EXPECT_EQ(plan.dispatch[0].peer, 2);
  ASSERT_EQ(plan.dispatch[0].entries.size(), 2u);
  EXPECT_EQ(plan.dispatch[0].entries[1].row, 1);
  EXPECT_EQ(plan.dispatch[0].entries[1].result, 5);
  EXPECT_EQ(plan.dispatch[1].peer, 5);
  ASSERT_EQ(plan.dispatch[1].entries.size(), 3u);
  EXPECT_EQ(plan.dispatch[1].entries[0].expert, 0);
  EXPECT_EQ(plan.dispatch[1].entries[0].result, 2);
  EXPECT_EQ(plan.dispatch[1].entries[1].expert, 3);
  ASSERT_EQ(plan.unheld.size(), 1u);
  EXPECT_EQ(plan.unheld[0].result, 3);
}

TEST(Plan, KeepsEveryEntryOnceForRandomChoices) {
  std::mt19937 rng(7);
  for (int round = 0; round < 50; ++round) {
    const int num_experts = 1 + rng() % 40, num_peers = 1 + rng() % 6;
    const RoutedShape shape{.num_rows = static_cast<int>(rng() % 30),
                            .topk = 1 + static_cast<int>(rng() % 5)};
    std::vector<int> holders(num_experts);
    for (int& holder : holders) holder = static_cast<int>(rng() % (num_peers + 1)) - 1;
    std::vector<int32_t> ids(shape.num_rows * shape.topk);
    for (int32_t& id : ids) id = rng() % num_experts;
    const Plan plan = PlanRows(shape, ids, holders);
    std::vector<int> seen(ids.size(), 0);
    for (const PeerEntries& peer : plan.dispatch) {
      for (const DispatchEntry& entry : peer.entries) {
        EXPECT_EQ(holders[entry.expert], peer.peer);
        EXPECT_EQ(ids[entry.result], entry.expert);
        EXPECT_EQ(entry.result / shape.topk, entry.row);
        ++seen[entry.result];
      }
    }
    for (const DispatchEntry& entry : plan.unheld) {
      EXPECT_EQ(holders[entry.expert], kNoPeer);
      ++seen[entry.result];
    }
    EXPECT_EQ(seen, std::vector<int>(ids.size(), 1));
  }
}

TEST(Plan, PlansLeftOverEntriesAnewWithTheirResultIndex) {
  const std::vector<DispatchEntry> left = {{.row = 4, .expert = 1, .result = 9},
                                           {.row = 2, .expert = 0, .result = 5}};
  const Plan plan = PlanEntries(left, {3, 3});
  ASSERT_EQ(plan.dispatch.size(), 1u);
  EXPECT_EQ(plan.dispatch[0].entries[0].result, 5);
  EXPECT_EQ(plan.dispatch[0].entries[1].result, 9);
}

}  // namespace
}  // namespace orrery
