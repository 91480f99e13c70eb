#include "tools/bench/summary.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(Summary, InterpolatesPercentilesBetweenNeighbours) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  // Position of the p-th percentile: p / 100 * 99.
  const Summary summary = Summarize(values);
  EXPECT_EQ(summary.count, 100);
  EXPECT_DOUBLE_EQ(summary.mean, 50.5);
  EXPECT_DOUBLE_EQ(summary.median, 50.5);
  EXPECT_DOUBLE_EQ(summary.p90, 90.1);
  EXPECT_DOUBLE_EQ(summary.p99, 99.01);
  EXPECT_DOUBLE_EQ(summary.max, 100.0);
}

TEST(Summary, OfOneValueIsThatValue) {
  const Summary summary = Summarize({7.0});
  EXPECT_EQ(summary.count, 1);
  for (const double value : {summary.mean, summary.median, summary.p90, summary.p99, summary.max}) {
    EXPECT_EQ(value, 7.0);
  }
}

TEST(Summary, OfNothingIsZero) {
  EXPECT_EQ(Summarize({}).count, 0);
  EXPECT_EQ(Summarize({}).p99, 0.0);
  EXPECT_EQ(Median({}), 0.0);
}

TEST(Percentile, CoversBothEnds) {
  const std::vector<double> sorted = {1.0, 2.0, 4.0};
  EXPECT_EQ(Percentile(sorted, 0.0), 1.0);
  EXPECT_EQ(Percentile(sorted, 100.0), 4.0);
  EXPECT_EQ(Percentile(sorted, 75.0), 3.0);
  EXPECT_EQ(Median({3.0, 1.0, 2.0}), 2.0);
  EXPECT_EQ(Median({3.0, 1.0}), 2.0);
}

}  // namespace
}  // namespace orrery
