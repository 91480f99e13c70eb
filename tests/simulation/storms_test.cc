// Thousands of small random worlds; `orrery simulate` runs millions.
#include "tests/simulation/storms.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(Storms, BreakNoPromiseThoughEverythingHappens) {
  std::map<std::string, int64_t> happened;
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    const StormReport report = RunStorm(seed);
    ASSERT_THAT(report.broken, testing::IsEmpty()) << "orrery simulate --seeds=1 --seed=" << seed;
    for (const auto& [what, count] : report.happened) happened[what] += count;
  }
  EXPECT_EQ(happened.size(), 22u);
  for (const auto& [what, count] : happened) EXPECT_GT(count, 50) << what;
}

}  // namespace
}  // namespace orrery
