#include "tools/bench/kernels/kernel_figures.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

const KernelCase kCase = {
    .operation = "matmul_o", .format = "bf16", .num_rows = 4, .shape = "2 > 3"};

TEST(KernelFigures, ANameSaysOperationFormatAndRows) { EXPECT_EQ(kCase.name(), "matmul_o/bf16/4"); }

TEST(KernelFigures, ASpreadIsMedianAndExtremes) {
  const Spread spread = SpreadOf({5.0, 1.0, 9.0});
  EXPECT_EQ(spread.median, 5.0);
  EXPECT_EQ(spread.min, 1.0);
  EXPECT_EQ(spread.max, 9.0);
}

// The second round meets a machine of half the speed: ratios are as in the others.
TEST(KernelFigures, RatiosAreTakenWithinARound) {
  const Work work = {.bytes = 10.0, .flops = 20.0};
  const std::vector<KernelRound> rounds = {
      {.ceilings = {.bytes_per_s = 10.0, .flops_per_s = 100.0},
       .seconds = 2.0,
       .peer_seconds = 3.0},
      {.ceilings = {.bytes_per_s = 5.0, .flops_per_s = 50.0}, .seconds = 4.0, .peer_seconds = 6.0},
      {.ceilings = {.bytes_per_s = 10.0, .flops_per_s = 100.0},
       .seconds = 2.0,
       .peer_seconds = 3.0},
  };
  const KernelFigures figures = Summarize(kCase, work, rounds);
  EXPECT_EQ(figures.num_rounds, 3);
  EXPECT_EQ(figures.bound, Bound::kMemory);
  EXPECT_DOUBLE_EQ(figures.seconds.median, 2.0);
  EXPECT_DOUBLE_EQ(figures.seconds.max, 4.0);
  EXPECT_DOUBLE_EQ(figures.bytes_per_s, 5.0);
  EXPECT_DOUBLE_EQ(figures.flops_per_s, 10.0);
  for (const double share : {figures.share.median, figures.share.min, figures.share.max}) {
    EXPECT_DOUBLE_EQ(share, 0.5);
  }
  ASSERT_TRUE(figures.peer_ratio.has_value());
  for (const double ratio : {figures.peer_ratio->median, figures.peer_ratio->min}) {
    EXPECT_DOUBLE_EQ(ratio, 1.5);
  }
}

TEST(KernelFigures, WithoutAPeerThereIsNoRatio) {
  const KernelFigures figures =
      Summarize(kCase, {.bytes = 1.0, .flops = 100.0},
                {{.ceilings = {.bytes_per_s = 10.0, .flops_per_s = 100.0}, .seconds = 2.0}});
  EXPECT_EQ(figures.bound, Bound::kCompute);
  EXPECT_DOUBLE_EQ(figures.share.median, 0.5);
  EXPECT_FALSE(figures.peer_ratio.has_value());
  EXPECT_FALSE(figures.peer_seconds.has_value());
}

}  // namespace
}  // namespace orrery
