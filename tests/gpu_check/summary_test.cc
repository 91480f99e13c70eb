#include "tests/gpu_check/summary.h"

#include <gtest/gtest.h>

namespace orrery {
namespace {

TEST(Summary, ListsPartsAndWhatWasSkippedAndCountsLast) {
  const std::vector<PartResult> parts = {
      {.name = "All/Attention", .num_passed = 13, .seconds = 12.06},
      {.name = "Nccl", .num_skipped = 1, .skipped = {"no libnccl"}},
      {.name = "Bench", .num_passed = 1, .notes = {"copy 4000 GB/s"}, .seconds = 95.0}};
  EXPECT_EQ(SummaryText(parts),
            "part                      passed  failed  skipped   seconds\n"
            "All/Attention                 13       0        0      12.1\n"
            "Nccl                           0       0        1       0.0\n"
            "  SKIPPED: no libnccl\n"
            "Bench                          1       0        0      95.0\n"
            "  copy 4000 GB/s\n"
            "14 passed, 0 failed, 1 skipped: exit code 0\n");
}

TEST(Summary, FailsWhenSomethingFailedOrNothingPassed) {
  EXPECT_EQ(ExitCodeOf({{.num_passed = 5}}), 0);
  EXPECT_EQ(ExitCodeOf({{.num_passed = 5}, {.failed = {"Rows.Lie"}}}), 1);
  EXPECT_EQ(ExitCodeOf({{.num_skipped = 3}}), 1);
  EXPECT_EQ(ExitCodeOf({}), 1);
}

TEST(PartReport, CountsAndRemembersWhatWasRunning) {
  const PartResult result = ReadPartReport(
      "B A.One\nP A.One\nB A.Two\nF A.Two\nB A.Three\nS no GPU\nB A.Four\nS no GPU\nN fast\nB "
      "A.Five\n");
  EXPECT_EQ(result.num_passed, 1);
  EXPECT_EQ(result.failed, std::vector<std::string>{"A.Two"});
  EXPECT_EQ(result.num_skipped, 2);
  EXPECT_EQ(result.skipped, std::vector<std::string>{"no GPU"});
  EXPECT_EQ(result.notes, std::vector<std::string>{"fast"});
  EXPECT_EQ(result.running, "A.Five");
  EXPECT_EQ(ReadPartReport("B A.One\nP A.One\n").running, "");
}

}  // namespace
}  // namespace orrery
