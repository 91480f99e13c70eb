#include "services/attention/scheduler.h"

#include <gtest/gtest.h>

namespace orrery {
namespace {

TEST(Scheduler, HasNothingToDoWhenEmpty) { EXPECT_FALSE(Scheduler({}).Next().has_value()); }

TEST(Scheduler, CutsALongPromptIntoChunksAndThenDecodesRowByRow) {
  Scheduler scheduler({.max_waiting_requests = 1, .max_step_rows = 4});
  ASSERT_TRUE(scheduler.Add(7, 10).ok());
  const struct {
    int first, rows;
    bool end;
  } expected[] = {{0, 4, false}, {4, 4, false}, {8, 2, true}, {10, 1, true}, {11, 1, true}};
  for (const auto& step : expected) {
    const auto decision = scheduler.Next();
    ASSERT_TRUE(decision.has_value());
    EXPECT_EQ(decision->id, 7u);
    EXPECT_EQ(decision->first_position, step.first);
    EXPECT_EQ(decision->num_rows, step.rows);
    EXPECT_EQ(decision->reaches_end, step.end);
    scheduler.Committed(7, decision->num_rows, decision->reaches_end ? 1 : 0);
  }
}

TEST(Scheduler, RunsSequencesInOrderOfArrival) {
  Scheduler scheduler({});
  ASSERT_TRUE(scheduler.Add(1, 2).ok());
  ASSERT_TRUE(scheduler.Add(2, 3).ok());
  EXPECT_EQ(scheduler.Next()->id, 1u);
  scheduler.Remove(1);
  EXPECT_EQ(scheduler.Next()->id, 2u);
  EXPECT_EQ(scheduler.num_running(), 1);
  EXPECT_EQ(scheduler.num_waiting(), 0);
}

TEST(Scheduler, RefusesWhatDoesNotFitTheQueue) {
  Scheduler scheduler({.max_waiting_requests = 1, .max_step_rows = 4});
  EXPECT_TRUE(scheduler.Add(1, 1).ok());  // runs
  EXPECT_TRUE(scheduler.Add(2, 1).ok());  // waits
  const absl::Status refused = scheduler.Add(3, 1);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("limit is 1"), std::string::npos) << refused;
  scheduler.Remove(2);  // cancelled while waiting
  EXPECT_TRUE(scheduler.Add(3, 1).ok());
}

}  // namespace
}  // namespace orrery
