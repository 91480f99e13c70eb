// Router and schedulers through thousands of requests in virtual time.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/simulation/cluster_world.h"
#include "tests/simulation/event_loop.h"

namespace orrery {
namespace {

using ::testing::IsEmpty;

TEST(ClusterSimulation, AnswersEveryRequestWhenNothingFails) {
  EventLoop loop(1);
  ClusterWorld world(loop, {.num_requests = 2000, .arrival_gap = absl::Milliseconds(20)});
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_EQ(world.endings(), (std::map<absl::StatusCode, int>{{absl::StatusCode::kOk, 2000}}));
}

TEST(ClusterSimulation, RefusesWhatDoesNotFitAndAnswersTheRest) {
  EventLoop loop(2);
  ClusterWorld world(loop, {.num_requests = 2000, .arrival_gap = absl::Microseconds(500)});
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_EQ(world.endings().size(), 2u);
  EXPECT_GT(world.endings().at(absl::StatusCode::kOk), 50);
  EXPECT_GT(world.endings().at(absl::StatusCode::kResourceExhausted), 50);
}

class StormyCluster : public testing::TestWithParam<uint64_t> {};

TEST_P(StormyCluster, LosesNoRequestThroughCrashesAndCancellations) {
  EventLoop loop(GetParam());
  ClusterWorld world(loop, {.num_requests = 2000,
                            .arrival_gap = absl::Milliseconds(3),
                            .crash_per_step = 0.01,
                            .cancel_per_token = 0.01});
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  // The storm was one.
  EXPECT_GT(world.num_crashes(), 20);
  EXPECT_GT(world.num_replays(), 20);
  EXPECT_GT(world.num_preemptions(), 0);
  EXPECT_GT(world.endings().at(absl::StatusCode::kOk), 200);
  // Though at moments no rank is there.
  EXPECT_EQ(world.endings().count(absl::StatusCode::kUnavailable), 0u);
  EXPECT_GT(world.endings().at(absl::StatusCode::kCancelled), 0);
}

TEST_P(StormyCluster, LosesNoRequestWhenItsRouterCrashesTooAndClientsResume) {
  EventLoop loop(GetParam());
  ClusterWorld world(loop, {.num_requests = 1000,
                            .arrival_gap = absl::Milliseconds(8),
                            .crash_per_step = 0.002,
                            .router_crash_per_token = 0.001});
  world.Run();
  EXPECT_THAT(world.violations(), IsEmpty());
  EXPECT_GT(world.num_crashes(), 5);
  EXPECT_GT(world.num_replays(), 5);
  EXPECT_GT(world.num_resumed(), 5);
  EXPECT_GT(world.endings().at(absl::StatusCode::kOk), 500);
}

INSTANTIATE_TEST_SUITE_P(Seeds, StormyCluster, testing::Range(uint64_t{1}, uint64_t{9}));

}  // namespace
}  // namespace orrery
