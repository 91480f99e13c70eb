#include "base/fault_point.h"

#include <csignal>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(FaultPoint, EachKillsAtThePassingThatItWasArmedFor) {
  EXPECT_EXIT(
      {
        ArmFaultPoint("before_commit:3").IgnoreError();
        PassFaultPoint(FaultPoint::kBeforeCommit);
        PassFaultPoint(FaultPoint::kAfterDispatch);
        PassFaultPoint(FaultPoint::kBeforeCommit);
        std::fputs("two", stderr);
        PassFaultPoint(FaultPoint::kBeforeCommit);
      },
      testing::KilledBySignal(SIGKILL), "two");
}

TEST(FaultPoint, IsNoneUnlessArmed) {
  EXPECT_TRUE(ArmFaultPoint("").ok());
  PassFaultPoint(FaultPoint::kBeforeCommit);
}

TEST(FaultPoint, IsRefusedWithTheKnownOnes) {
  for (const char* text :
       {"nowhere:1", "before_commit", "before_commit:0", "before_commit:x", ":1"}) {
    EXPECT_THAT(std::string(ArmFaultPoint(text).message()),
                testing::AllOf(testing::HasSubstr(text), testing::HasSubstr("before_commit")));
  }
  for (const std::string& name : FaultPointNames()) {
    EXPECT_EXIT(
        {
          if (ArmFaultPoint(name + ":1").ok()) std::exit(0);
        },
        testing::ExitedWithCode(0), "");
  }
}

}  // namespace
}  // namespace orrery
