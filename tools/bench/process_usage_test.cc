#include "tools/bench/process_usage.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(ProcStat, FindsItsFieldsBehindAnyName) {
  const auto stat = ParseProcStat(
      "4711 (a) b (c)) S 17 1 1 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 12 0 999 1048576 321\n");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->parent, 17);
  EXPECT_EQ(stat->cpu_ticks, 300);
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

TEST(Usage, GrowthIsOfThoseThatWereThereBothTimes) {
  const UsageSnapshot before = {.time = absl::UnixEpoch(),
                                .children = {{"router-0", {.anonymous_bytes = 5000}},
                                             {"expert-0", {.anonymous_bytes = 900}},
                                             {"gone", {.anonymous_bytes = 7}}}};
  const UsageSnapshot after = {.time = absl::UnixEpoch(),
                               .children = {{"router-0", {.anonymous_bytes = 7500}},
                                            {"expert-0", {.anonymous_bytes = 800}},
                                            {"new", {.anonymous_bytes = 7}}}};
  EXPECT_EQ(GrowthBetween(before, after),
            (std::map<std::string, int64_t>{{"router-0", 2500}, {"expert-0", -100}}));
}

TEST(RollupBytes, StandInALineOfTheirOwn) {
  const std::string rollup =
      "55d0-7ffe ---p 00000000 00:00 0 [rollup]\n"
      "Rss:                4012 kB\nAnonymous:          1234 kB\n"
      "AnonHugePages:      2048 kB\nSwap:                 56 kB\nSwapPss:              50 kB\n";
  EXPECT_EQ(ParseRollupBytes(rollup, "Anonymous"), 1234 * 1024);
  EXPECT_EQ(ParseRollupBytes(rollup, "Swap"), 56 * 1024);
  EXPECT_EQ(ParseRollupBytes("", "Swap"), 0);
}

TEST(Usage, OfThisProcessIsReadFromTheSystem) {
  EXPECT_GT(TakeUsageSnapshot().own_cpu_seconds, 0.0);
}

}  // namespace
}  // namespace orrery
