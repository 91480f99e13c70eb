// The ticket protocol through thousands of dispatches on bad networks, in virtual time.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/ticket_world.h"

namespace orrery {
namespace {

using ::testing::IsEmpty;
using FrameState = TicketTable::FrameState;

const TicketWorldSpec kCalm{.faults = {.max_delay = absl::Microseconds(200)},
                            .patience = absl::Seconds(1)};
const TicketWorldSpec kStormy{.num_shards = 4,
                              .num_tickets = 3000,
                              .faults = {.drop = 0.03, .duplicate = 0.1},
                              .crash = 0.01,
                              .abandon = 0.15};

TEST(EventLoop, RunsEventsInOrderOfTimeAndThenOfTheirAdding) {
  EventLoop loop(1);
  std::string order;
  loop.After(absl::Seconds(2), [&] { order += "c"; });
  loop.After(absl::Seconds(1), [&] {
    order += "a";
    loop.After(absl::ZeroDuration(), [&] { order += "b"; });
  });
  loop.After(absl::Seconds(2), [&] { order += "d"; });
  const absl::Time start = loop.Now();
  loop.RunUntil(start + absl::Seconds(1));
  EXPECT_EQ(order, "ab");
  EXPECT_EQ(loop.Now(), start + absl::Seconds(1));
  while (loop.RunOne()) {
  }
  EXPECT_EQ(order, "abcd");
  EXPECT_EQ(loop.Now(), start + absl::Seconds(2));
}

TEST(TicketSimulation, AnswersEverythingOnACalmNetwork) {
  EventLoop loop(1);
  TicketWorld world(loop, kCalm);
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_EQ(world.num_closed(), kCalm.num_tickets);
  for (FrameState state : {FrameState::kWaiting, FrameState::kLost, FrameState::kRefused}) {
    EXPECT_EQ(world.final_states().count(state), 0u);
  }
  EXPECT_EQ(world.counters().late + world.counters().duplicate, 0u);
  EXPECT_EQ(world.num_dropped(), 0);
}

class StormTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(StormTest, KeepsItsPromisesThroughLossRepetitionDisorderCrashesAndGivingUp) {
  EventLoop loop(GetParam());
  TicketWorld world(loop, kStormy);
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_EQ(world.num_closed(), kStormy.num_tickets);
  // The storm was one: everything that can happen did.
  for (FrameState state : {FrameState::kAnswered, FrameState::kWaiting, FrameState::kLost}) {
    EXPECT_GT(world.final_states().at(state), 50);
  }
  EXPECT_GT(world.counters().late, 50u);
  EXPECT_GT(world.counters().duplicate, 50u);
  EXPECT_GT(world.num_abandoned(), 50);
  EXPECT_GT(world.num_dropped(), 50);
  EXPECT_GT(world.num_frames_run(), world.num_groups() + 50);
  EXPECT_EQ(world.counters().malformed, 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, StormTest, ::testing::Values(1, 2, 3, 5, 8, 13, 21, 34));

TEST(TicketSimulation, RunsTheSameWayForTheSameSeedAndAnotherForAnother) {
  const auto trace = [](uint64_t seed) {
    EventLoop loop(seed);
    TicketWorld world(loop, kStormy);
    world.Run();
    return world.trace();
  };
  EXPECT_EQ(trace(7), trace(7));
  EXPECT_NE(trace(7), trace(8));
}

}  // namespace
}  // namespace orrery
