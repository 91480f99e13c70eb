#include "tools/chaos/end_lines.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(EndLines, CountsWhatIsToldNeverOrTwiceAsEndedWell) {
  EndLines lines;
  lines.Add(
      "2026-01-01T00:00:00.000Z I router-0] request router-0-a-1: replayed behind 3 tokens of this "
      "call\n"
      "2026-01-01T00:00:00.000Z I router-0] request router-0-a-1: OK, 7 tokens in 12ms\n"
      "2026-01-01T00:00:00.000Z W router-0] request router-0-a-2: UNAVAILABLE: gone; 3 tokens in "
      "1ms\n"
      "2026-01-01T00:00:00.000Z I router-0] request router-0-a-3: OK, 1 tokens in 1ms");
  lines.Add("2026-01-01T00:00:00.000Z I router-1] request router-0-a-3: OK, 1 tokens in 1ms\n");
  EXPECT_EQ(lines.CountNotOnce({"router-0-a-1"}), 0);
  EXPECT_EQ(lines.CountNotOnce({"router-0-a-1", "router-0-a-2", "router-0-a-3", "other"}), 3);
  EXPECT_EQ(lines.CountNotOnce({}), 0);
}

}  // namespace
}  // namespace orrery
