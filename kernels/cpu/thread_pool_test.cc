#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

namespace orrery {
namespace {

TEST(ThreadPool, RunsEveryPartOnceForAnyNumberOfThreads) {
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (const int num_parts : {0, 1, 2, 7, 100}) {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::atomic<int>> runs(num_parts);
        pool.Run(num_parts, [&](int thread, int part) {
          ASSERT_GE(thread, 0);
          ASSERT_LT(thread, num_threads);
          ++runs[part];
        });
        for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1);
      }
    }
  }
}

TEST(ThreadPool, SharesPartsThatWaitForEachOther) {
  ThreadPool pool(3, {0, 0, 0});
  std::atomic<int> num_inside = 0;
  pool.Run(3, [&](int, int) {
    ++num_inside;
    while (num_inside < 3) std::this_thread::yield();
  });
  EXPECT_EQ(num_inside, 3);
}

TEST(ThreadPool, GivesEveryThreadItsOwnNumber) {
  ThreadPool pool(4);
  std::vector<std::atomic<bool>> busy(4);
  for (int round = 0; round < 100; ++round) {
    pool.Run(16, [&](int thread, int) {
      EXPECT_FALSE(busy[thread].exchange(true));
      busy[thread] = false;
    });
  }
}

TEST(ThreadPool, ShowsWhatOneRunWroteToTheNext) {
  ThreadPool pool(4);
  std::vector<int> values(64, 0), seen(64, 0);
  for (int round = 0; round < 200; ++round) {
    pool.Run(64, [&](int, int part) { seen[part] = values[(part + 1) % 64]; });
    pool.Run(64, [&](int, int part) { values[part] = seen[part] + 1; });
  }
  for (const int value : values) EXPECT_EQ(value, 200);
}

TEST(ThreadPool, TakesProcessorsThatAreNotThere) {
  ThreadPool pool(2, {0, 1'000'000});
  std::atomic<int> sum = 0;
  pool.Run(10, [&](int, int part) { sum += part; });
  EXPECT_EQ(sum, 45);
}

}  // namespace
}  // namespace orrery
