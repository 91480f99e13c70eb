#include "device/cuda/arena.h"

#include <gtest/gtest.h>

namespace orrery {
namespace {

TEST(Arena, GivesOutPiecesOnBordersUntilNothingIsLeft) {
  Arena arena(4 * Arena::kAlignment);
  EXPECT_EQ(arena.Take(1), 0u);
  EXPECT_EQ(arena.Take(Arena::kAlignment + 1), Arena::kAlignment);
  EXPECT_EQ(arena.num_free(), Arena::kAlignment);
  EXPECT_EQ(arena.Take(Arena::kAlignment + 1), std::nullopt);
  EXPECT_EQ(arena.Take(0), 3 * Arena::kAlignment);
  EXPECT_EQ(arena.Take(0), std::nullopt);
  EXPECT_EQ(arena.num_free(), 0u);
}

TEST(Arena, MakesOneGapOfNeighbours) {
  Arena arena(3 * Arena::kAlignment);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(arena.Take(1).has_value());
  arena.GiveBack(Arena::kAlignment);
  EXPECT_EQ(arena.Take(2 * Arena::kAlignment), std::nullopt);
  arena.GiveBack(0);
  EXPECT_EQ(arena.Take(2 * Arena::kAlignment), 0u);
}

TEST(Arena, RefusesSizesBeyondAllReason) {
  Arena arena(1000);  // not even a whole number of borders
  EXPECT_EQ(arena.Take(~size_t{0}), std::nullopt);
  EXPECT_EQ(arena.Take(1000), std::nullopt);
  EXPECT_EQ(arena.Take(768), 0u);
}

TEST(ArenaDeathTest, RefusesBackWhatItNeverGave) {
  Arena arena(1000);
  EXPECT_DEATH(arena.GiveBack(256), "nothing was taken");
}

}  // namespace
}  // namespace orrery
