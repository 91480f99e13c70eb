#include "tools/bench/process_usage.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(ProcStat, FindsItsFieldsBehindAnyName) {
  const auto stat = ParseProcStat(
      "4711 (a) b (c)) S 17 1 1 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 12 0 999 1048576 321 "
      "18446744073709551615 1 1\n");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->parent, 17);
  EXPECT_EQ(stat->cpu_ticks, 300);
  EXPECT_EQ(stat->rss_pages, 321);
}

TEST(ProcStat, RefusesWhatIsNone) {
  EXPECT_FALSE(ParseProcStat("").has_value());
  EXPECT_FALSE(ParseProcStat("1 (init) S 0 1 1").has_value());
  EXPECT_FALSE(ParseProcStat("1 (init) S x 1 1 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0").has_value());
}

TEST(Usage, IsADifferencePerSecond) {
  const UsageSnapshot before = {
      .time = absl::UnixEpoch(),
      .own_cpu_seconds = 1.0,
      .children = {{"expert-0", {.cpu_seconds = 2.0}}, {"gone", {.cpu_seconds = 9.0}}}};
  const UsageSnapshot after = {
      .time = absl::UnixEpoch() + absl::Seconds(4),
      .own_cpu_seconds = 2.0,
      .children = {{"expert-0", {.cpu_seconds = 8.0}}, {"new", {.cpu_seconds = 1.0}}}};
  const UsageDelta delta = UsageBetween(before, after);
  EXPECT_DOUBLE_EQ(delta.own_cores, 0.25);
  ASSERT_EQ(delta.child_cores.size(), 1);
  EXPECT_DOUBLE_EQ(delta.child_cores.at("expert-0"), 1.5);
}

TEST(Usage, OfThisProcessIsReadFromTheSystem) {
  EXPECT_GT(TakeUsageSnapshot().own_cpu_seconds, 0.0);
}

}  // namespace
}  // namespace orrery
