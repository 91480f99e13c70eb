#include "services/router/work_queue.h"

#include <atomic>
#include <future>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

TEST(WorkQueue, RunsWhatIsPushed) {
  WorkQueue workers({.num_threads = 2});
  std::promise<int> promise;
  ASSERT_TRUE(workers.Push(1, [&] { promise.set_value(7); }).ok());
  EXPECT_EQ(promise.get_future().get(), 7);
}

TEST(WorkQueue, RefusesWhatExceedsTheBoundAndRunsTheRest) {
  std::promise<void> started, release;
  std::atomic<int> num_run = 0;
  {
    WorkQueue workers({.num_threads = 1, .max_waiting_bytes = 10'000});
    ASSERT_TRUE(workers
                    .Push(100,
                          [&] {
                            started.set_value();
                            release.get_future().wait();
                          })
                    .ok());
    started.get_future().wait();  // from here on what is pushed waits
    ASSERT_TRUE(workers.Push(5'000, [&] { ++num_run; }).ok());
    const absl::Status refused = workers.Push(5'000, [&] { num_run += 100; });
    EXPECT_TRUE(absl::IsResourceExhausted(refused));
    EXPECT_THAT(std::string(refused.message()), HasSubstr("the limit is 10000 bytes"));
    EXPECT_TRUE(workers.Push(100, [&] { ++num_run; }).ok());
    release.set_value();
  }
  EXPECT_EQ(num_run, 2);  // the destructor waited for them
}

}  // namespace
}  // namespace orrery
