#include "client/retry.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(BackoffDelay, DoublesUpToTheLongestAndKeepsToTheUpperHalf) {
  const Backoff backoff = {.first = absl::Milliseconds(50), .longest = absl::Seconds(2)};
  for (uint64_t key = 0; key < 100; ++key) {
    absl::Duration whole = absl::Milliseconds(50);
    for (int num_failures = 1; num_failures < 40; ++num_failures) {
      const absl::Duration delay = BackoffDelay(backoff, num_failures, key);
      EXPECT_GE(delay, whole / 2);
      EXPECT_LE(delay, whole);
      whole = std::min(2 * whole, absl::Seconds(2));
    }
  }
}

TEST(BackoffDelay, IsTheSameForAKeyAndAnotherForOthers) {
  EXPECT_EQ(BackoffDelay({}, 3, 7), BackoffDelay({}, 3, 7));
  EXPECT_NE(BackoffDelay({}, 3, 7), BackoffDelay({}, 3, 8));
}

TEST(RetryBudget, IsSpentAndEarnedAgainUpToItsCapacity) {
  RetryBudget budget(2);
  EXPECT_TRUE(budget.Take());
  EXPECT_TRUE(budget.Take());
  EXPECT_FALSE(budget.Take());
  for (int i = 0; i < 5; ++i) budget.PutBack();
  EXPECT_TRUE(budget.Take());
  EXPECT_TRUE(budget.Take());
  EXPECT_FALSE(budget.Take());
}

}  // namespace
}  // namespace orrery
