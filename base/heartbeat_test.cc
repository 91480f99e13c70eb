#include "base/heartbeat.h"

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(Heartbeat, AgesFromEachBeatAndNotAtRest) {
  Heartbeat heartbeat;
  EXPECT_EQ(heartbeat.Age(), absl::ZeroDuration());
  const absl::Time begin = absl::Now();
  heartbeat.Beat();
  while (heartbeat.Age() < absl::Milliseconds(1)) {
  }
  EXPECT_GE(absl::Now() - begin, absl::Microseconds(900));  // of another clock
  heartbeat.Rest();
  EXPECT_EQ(heartbeat.Age(), absl::ZeroDuration());
}

}  // namespace
}  // namespace orrery
