#include "tools/chaos/growth.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

constexpr int64_t kMiB = 1 << 20;

UsageSnapshot At(int minute, int pid, int64_t mib, int num_descriptors) {
  UsageSnapshot snapshot;
  snapshot.time = absl::UnixEpoch() + absl::Minutes(minute);
  snapshot.children["expert-0"] = {
      .cpu_seconds = 0.0,
      .anonymous_bytes = mib * kMiB / 2,
      .pid = pid,
      .swapped_bytes = mib * kMiB / 2,
      .num_descriptors = num_descriptors,
  };
  return snapshot;
}

TEST(Growth, IsTheSlopeOfMemoryAndDescriptors) {
  Growth growth(absl::ZeroDuration());
  for (int minute = 0; minute <= 60; minute += 10) {
    growth.Add(At(minute, 7, 100 + minute / 10, 20 + minute / 5));
  }
  const Growth::Slope slope = growth.Slopes().at("expert-0");
  EXPECT_NEAR(slope.mib_per_hour, 6.0, 1e-9);
  EXPECT_NEAR(slope.descriptors_per_hour, 12.0, 1e-9);
  EXPECT_EQ(slope.seen, absl::Hours(1));
}

// Another process of that name takes more from the start: that is no growth.
TEST(Growth, ALifeThatBeginsHigherIsNotAGrowth) {
  Growth growth(absl::ZeroDuration());
  for (int minute = 0; minute < 30; ++minute) growth.Add(At(minute, 7, 100, 20));
  for (int minute = 30; minute < 60; ++minute) growth.Add(At(minute, 8, 300, 30));
  const Growth::Slope slope = growth.Slopes().at("expert-0");
  EXPECT_NEAR(slope.mib_per_hour, 0.0, 1e-9);
  EXPECT_NEAR(slope.descriptors_per_hour, 0.0, 1e-9);
  EXPECT_EQ(slope.seen, absl::Minutes(58));
  EXPECT_EQ(slope.longest(), absl::Minutes(29));
}

TEST(Growth, TheWarmUpOfEachLifeIsLeftOut) {
  Growth growth(absl::Minutes(5));
  for (int minute = 0; minute < 20; ++minute) {
    growth.Add(At(minute, 7, minute < 5 ? minute : 50, 20));
  }
  EXPECT_NEAR(growth.Slopes().at("expert-0").mib_per_hour, 0.0, 1e-9);
}

TEST(Growth, OneLookAtAProcessTellsNothing) {
  Growth growth(absl::ZeroDuration());
  growth.Add(At(0, 7, 100, 20));
  EXPECT_TRUE(growth.Slopes().empty());
}

}  // namespace
}  // namespace orrery
