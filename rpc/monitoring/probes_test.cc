#include "rpc/monitoring/probes.h"

#include <string>

#include "gtest/gtest.h"

namespace orrery {
namespace {

internal::MemberDescription Member(internal::MemberState state) {
  internal::MemberDescription description;
  description.set_state(state);
  description.set_loaded_bytes(12'345'678);
  description.set_total_bytes(40'000'000);
  return description;
}

TEST(StartupAnswer, SaysHowMuchIsLoadedUntilAllIs) {
  const HttpAnswer loading = StartupAnswer(Member(internal::MEMBER_STATE_LOADING));
  EXPECT_EQ(loading.status, 503);
  EXPECT_EQ(loading.body, "loading 12 of 40 MB\n");
  for (const auto state : {internal::MEMBER_STATE_WAITING, internal::MEMBER_STATE_READY,
                           internal::MEMBER_STATE_DRAINING, internal::MEMBER_STATE_STOPPING}) {
    EXPECT_EQ(StartupAnswer(Member(state)).status, 200) << state;
  }
}

TEST(ReadyAnswer, IsYesForAMemberThatIsReadyAlthoughItHasSomethingToSay) {
  internal::MemberDescription member = Member(internal::MEMBER_STATE_READY);
  EXPECT_EQ(ReadyAnswer(member).status, 200);
  member.add_problems("expert-3: one more loss would be one too many");
  EXPECT_EQ(ReadyAnswer(member).status, 200);
}

TEST(ReadyAnswer, IsNoWithTheReasonsOneALine) {
  internal::MemberDescription member = Member(internal::MEMBER_STATE_WAITING);
  member.add_problems("layers 1-4: experts 4-7 have no holder");
  member.add_problems("expert-1 cannot be reached");
  const HttpAnswer answer = ReadyAnswer(member);
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.body,
            "waiting\nlayers 1-4: experts 4-7 have no holder\nexpert-1 cannot be reached\n");
}

TEST(ReadyAnswer, IsNoWhileItLoadsDrainsOrStops) {
  EXPECT_EQ(ReadyAnswer(Member(internal::MEMBER_STATE_LOADING)).body, "loading 12 of 40 MB\n");
  EXPECT_EQ(ReadyAnswer(Member(internal::MEMBER_STATE_DRAINING)).body, "draining\n");
  EXPECT_EQ(ReadyAnswer(Member(internal::MEMBER_STATE_STOPPING)).body, "stopping\n");
  for (const auto state : {internal::MEMBER_STATE_LOADING, internal::MEMBER_STATE_DRAINING,
                           internal::MEMBER_STATE_STOPPING}) {
    EXPECT_EQ(ReadyAnswer(Member(state)).status, 503) << state;
  }
}

TEST(LiveAnswer, IsNoOnceTheLoopHasNotTurnedForHalfAMinute) {
  EXPECT_EQ(LiveAnswer(absl::ZeroDuration()).status, 200);
  EXPECT_EQ(LiveAnswer(absl::Seconds(29)).status, 200);
  const HttpAnswer answer = LiveAnswer(absl::Seconds(42.7));
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.body, "the loop has not turned for 42s, at most 30s are allowed\n");
}

}  // namespace
}  // namespace orrery
