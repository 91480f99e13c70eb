#include "rpc/monitoring/instruments.h"

#include <cmath>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;

TEST(Histogram, CountsAValueInTheFirstBucketWhoseBoundIsNotBelowIt) {
  Histogram histogram({1, 2, 5});
  for (const double value : {0.5, 1.0, 1.5, 5.0, 7.0, 100.0}) histogram.Observe(value);
  const HistogramReading reading = histogram.Read();
  EXPECT_THAT(reading.bounds, ElementsAre(1, 2, 5));
  EXPECT_THAT(reading.counts, ElementsAre(2, 1, 1, 2));
  EXPECT_EQ(reading.sum, 115);
}

TEST(Histogram, CountsEveryObservationOfManyThreads) {
  Histogram histogram({1});
  Counter counter;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 10'000; ++k) histogram.Observe(k % 3), counter.Add(2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const HistogramReading reading = histogram.Read();
  EXPECT_THAT(reading.counts, ElementsAre(4 * 6667, 4 * 3333));
  EXPECT_EQ(reading.sum, 4 * 9999);
  EXPECT_EQ(counter.value(), 80'000);
}

TEST(OneTwoFive, GivesTheNumbersThatAProgramWouldSay) {
  EXPECT_THAT(OneTwoFive(-4, -2), ElementsAre(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01));
  EXPECT_THAT(OneTwoFive(0, 1), ElementsAre(1, 2, 5, 10));
}

TEST(PowersOfTwo, BeginWithOne) { EXPECT_THAT(PowersOfTwo(3), ElementsAre(1, 2, 4, 8)); }

}  // namespace
}  // namespace orrery
