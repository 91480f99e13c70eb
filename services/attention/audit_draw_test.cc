#include "services/attention/audit_draw.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::Le;

TEST(AuditDraw, OneInOneIsEveryVisit) {
  AuditDraw draw(1);
  std::vector<int> chosen;
  for (int layer = 0; layer < 3; ++layer) {
    draw.Next(4, chosen);
    EXPECT_THAT(chosen, ElementsAre(0, 1, 2, 3));
  }
  EXPECT_EQ(draw.num_drawn(), 12);
}

// The default, and what the tests have, share factors with the visits that a row has.
TEST(AuditDraw, EveryPlaceOfARowHasItsTurn) {
  for (const int one_in : {100, 10'000}) {
    for (const int topk : {4, 8}) {
      AuditDraw draw(one_in);
      std::vector<int> chosen;
      std::vector<int> num_of_place(topk);
      constexpr int kEach = 1000;
      const int64_t num_visits = int64_t{kEach} * one_in * topk;
      constexpr int kRows = 16;
      for (int64_t visit = 0; visit < num_visits; visit += kRows * topk) {
        draw.Next(kRows * topk, chosen);
        for (const int index : chosen) ++num_of_place[index % topk];
      }
      EXPECT_THAT(num_of_place, Each(AllOf(Ge(0.85 * kEach), Le(1.15 * kEach)))) << one_in;
    }
  }
}

TEST(AuditDraw, IsTheSameHoweverVisitsAreCounted) {
  AuditDraw draw(7), by_ones(7);
  std::vector<int> chosen, one;
  for (int layer = 0; layer < 100; ++layer) {
    draw.Next(20, chosen);
    std::vector<int> expected;
    for (int i = 0; i < 20; ++i) {
      by_ones.Next(1, one);
      if (!one.empty()) expected.push_back(i);
    }
    EXPECT_EQ(chosen, expected);
  }
}

}  // namespace
}  // namespace orrery
