// Thousands of small random worlds; `orrery simulate` runs millions.
#include "tests/simulation/storms.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(Storms, BreakNoPromise) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    ASSERT_THAT(RunStorm(seed), testing::IsEmpty()) << "orrery simulate --seed=" << seed;
  }
}

}  // namespace
}  // namespace orrery
