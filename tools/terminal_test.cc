#include "tools/terminal.h"

#include <cstdio>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Contents(std::FILE* file) {
  std::rewind(file);
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  return text;
}

TEST(Terminal, WritesPlainTextWhereNobodyLooks) {
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  Terminal out(file);
  EXPECT_FALSE(out.is_tty());
  out.ShowProgress("hidden");
  out.Print(out.Dim("a"), out.Red("b"), 3, "\n");
  EXPECT_EQ(Contents(file), "ab3\n");
  std::fclose(file);
}

TEST(ProgressLine, ShowsShareRateAndTimeLeft) {
  EXPECT_EQ(ProgressLine({.label = "eval",
                          .done = 5,
                          .total = 20,
                          .elapsed = absl::Seconds(2),
                          .unit = "problems"},
                         8),
            "eval  [##------]  5/20 problems  2.5/s  6 s left");
}

TEST(ProgressLine, ShowsBytesInMegabytes) {
  EXPECT_EQ(ProgressLine({.label = "loading",
                          .done = 20'000'000,
                          .total = 20'000'000,
                          .elapsed = absl::Seconds(2),
                          .unit = "bytes"},
                         4),
            "loading  [####]  20.0/20.0 MB  10.0 MB/s");
}

TEST(ProgressLine, SurvivesAnUnknownOrExceededTotal) {
  EXPECT_THAT(ProgressLine({.label = "x", .done = 0, .total = 0, .elapsed = {}, .unit = "rows"}, 4),
              HasSubstr("[----]"));
  const std::string line = ProgressLine(
      {.label = "x", .done = 9, .total = 4, .elapsed = absl::Seconds(1), .unit = "rows"}, 4);
  EXPECT_THAT(line, HasSubstr("[####]"));
  EXPECT_THAT(line, Not(HasSubstr("left")));
}

}  // namespace
}  // namespace orrery
