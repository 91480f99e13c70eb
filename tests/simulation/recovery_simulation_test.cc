// Whom a rank asks for its experts, through thousands of layers in which shards crash, stand still and
// drain, in virtual time.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/recovery_world.h"

namespace orrery {
namespace {

using ::testing::IsEmpty;

TEST(RecoverySimulation, WhileAllIsWellNobodyIsHedgedAndNothingLoaded) {
  EventLoop loop(1);
  RecoveryWorld world(loop, {.trouble = 0});
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_EQ(world.num_hedges(), 0);
  EXPECT_EQ(world.num_loaded(), 0);
  EXPECT_LT(world.longest_stall(), absl::Milliseconds(5));
}

class TroubleTest : public ::testing::TestWithParam<uint64_t> {};

// A shard that stands still is missed after 2.4 seconds, when it next does not describe itself; then its
// heir loads.
TEST_P(TroubleTest, EveryLayerComesToItsEndThroughHeirs) {
  EventLoop loop(GetParam());
  RecoveryWorld world(loop, {});
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_GT(world.num_troubles(), 3);
  EXPECT_GT(world.num_loaded(), 0);
  EXPECT_LT(world.longest_stall(), absl::Seconds(4));
}

TEST_P(TroubleTest, WithASecondHolderNoLayerStallsForLongerThanThePatience) {
  EventLoop loop(GetParam());
  RecoveryWorldSpec spec = {.is_doubled = true};
  RecoveryWorld world(loop, spec);
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_GT(world.num_troubles(), 3);
  EXPECT_EQ(world.num_loaded(), 0);
  EXPECT_LT(world.longest_stall(), spec.hedge.min_patience + absl::Milliseconds(50));
}

INSTANTIATE_TEST_SUITE_P(Seeds, TroubleTest, ::testing::Range<uint64_t>(1, 51));

}  // namespace
}  // namespace orrery
