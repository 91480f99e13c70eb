#include "services/attention/admission.h"

#include <vector>

#include "base/refusal_times.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

const absl::Time kStart = absl::UnixEpoch();

absl::Time At(double seconds) { return kStart + absl::Seconds(seconds); }

Admission::Visit Visit(const std::string& tenant, int64_t num_tokens = 10) {
  Admission::Visit visit;
  visit.tenant = tenant;
  visit.num_tokens = num_tokens;
  return visit;
}

void ExpectRefused(const absl::Status& status, const std::string& why) {
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  EXPECT_TRUE(RetryAfterOf(status).has_value());
}

TEST(Admission, ATenantThatIsAloneGetsHalfOfThePlacesAndTheNextHalfOfTheRest) {
  Admission admission({.max_open = 4, .max_waiting_tokens = 1000});
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(admission.Take(Visit("a"), At(0)).ok()) << i;
  ExpectRefused(admission.Take(Visit("a"), At(0)), "4 requests, 4 of this tenant; of 8 places");
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(admission.Take(Visit("b"), At(0)).ok()) << i;
  ExpectRefused(admission.Take(Visit("b"), At(0)), "6 requests, 2 of this tenant");
}

TEST(Admission, APlaceIsFreeAgainWhenItsRequestEndsStartedOrNot) {
  Admission admission({.max_open = 1, .max_waiting_tokens = 1000});
  for (const bool starts : {true, false, true}) {
    Admission::Visit visit = Visit("a");
    ASSERT_TRUE(admission.Take(visit, At(0)).ok());
    ExpectRefused(admission.Take(Visit("a"), At(0)), "of 2 places");
    if (starts) admission.OnStarted(visit, At(0));
    admission.OnEnded(visit, /*is_served=*/false, At(0));
  }
}

// Whether they wait or run; and also what is alone is held to what there is.
TEST(Admission, BytesAreBoundedUntilRequestsEnd) {
  Admission admission({.max_open = 100, .max_waiting_tokens = 1000, .max_bytes = 1000});
  const auto visit_of = [](const std::string& tenant, int64_t num_bytes) {
    Admission::Visit visit = Visit(tenant);
    visit.num_bytes = num_bytes;
    return visit;
  };
  const absl::Status never = admission.Take(visit_of("a", 1001), At(0));
  EXPECT_EQ(never.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(RetryAfterOf(never).has_value()) << "no time makes it fit";
  EXPECT_THAT(std::string(never.message()), HasSubstr("may hold 1001 bytes of this rank"));
  Admission::Visit first = visit_of("a", 400);
  ASSERT_TRUE(admission.Take(first, At(0)).ok());
  admission.OnStarted(first, At(0));
  ExpectRefused(admission.Take(visit_of("a", 300), At(0)), "may hold 400 bytes of this rank, 400");
  EXPECT_TRUE(admission.Take(visit_of("b", 300), At(0)).ok());
  ExpectRefused(admission.Take(visit_of("c", 301), At(0)), "asks for 301 more");
  Admission::Visit replay = visit_of("a", 700);
  replay.is_replay = true;
  EXPECT_TRUE(admission.Take(replay, At(0)).ok());
  ExpectRefused(admission.Take(replay, At(0)), "one more may hold 700, the limit is 1000");
  admission.OnEnded(first, /*is_served=*/true, At(1));
  EXPECT_TRUE(admission.Take(visit_of("c", 301), At(1)).ok());
  admission.OnEnded(replay, /*is_served=*/false, At(1));
  admission.SetUnread(/*num_bytes=*/200, /*num_replay_bytes=*/301);
  ExpectRefused(admission.Take(visit_of("d", 200), At(1)), "clients have yet to read 200");
  ExpectRefused(admission.Take(replay, At(1)), "hold up to 301 bytes");
  admission.SetUnread(0, 300);
  EXPECT_TRUE(admission.Take(visit_of("d", 199), At(1)).ok());
  EXPECT_TRUE(admission.Take(replay, At(1)).ok());
}

TEST(Admission, ReplaysHavePlacesOfTheirOwn) {
  Admission admission({.max_open = 1, .max_waiting_tokens = 1});
  ASSERT_TRUE(admission.Take(Visit("a"), At(0)).ok());
  Admission::Visit replay = Visit("a", 1'000'000);
  replay.is_replay = true;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(admission.Take(replay, At(0)).ok()) << i;
  ExpectRefused(admission.Take(replay, At(0)), "2 replayed requests of at most 2");
  admission.OnStarted(replay, At(1));
  admission.OnEnded(replay, /*is_served=*/true, At(2));
  EXPECT_TRUE(admission.Take(replay, At(2)).ok());
}

TEST(Admission, TokensOfWaitingPromptsAreBoundedAndThoseThatRunDoNotCount) {
  Admission admission({.max_open = 100, .max_waiting_tokens = 100});
  Admission::Visit first = Visit("a", 500);  // alone, it may be of any length
  ASSERT_TRUE(admission.Take(first, At(0)).ok());
  ExpectRefused(admission.Take(Visit("a", 1), At(0)), "500 tokens wait");
  admission.OnStarted(first, At(0));
  ASSERT_TRUE(admission.Take(Visit("a", 60), At(0)).ok());
  ASSERT_TRUE(admission.Take(Visit("a", 40), At(0)).ok());
  ExpectRefused(admission.Take(Visit("a", 40), At(0)), "which asks for 40 more; of 200");
  EXPECT_TRUE(admission.Take(Visit("b", 100), At(0)).ok());  // another finds room
}

// One request at a time runs, each for two seconds.
class Busy : public ::testing::Test {
 protected:
  Busy() : admission_({.max_open = 100, .max_waiting_tokens = 10'000}) {
    for (int i = 0; i < 11; ++i) {
      waiting_.push_back(Visit("a"));
      EXPECT_TRUE(admission_.Take(waiting_.back(), At(0)).ok());
    }
    for (int i = 0; i < 8; ++i) {
      admission_.OnStarted(waiting_[i], At(2 * i));
      admission_.OnEnded(waiting_[i], /*is_served=*/true, At(2 * i + 2));
    }
  }
  absl::Status TakeWith(const std::string& tenant, double seconds_left) {
    Admission::Visit visit = Visit(tenant);
    visit.deadline = At(16 + seconds_left);
    return admission_.Take(visit, At(16));
  }

  Admission admission_;
  std::vector<Admission::Visit> waiting_;
};

// Three wait, two seconds each, and then it runs for two itself: eight, and a third more.
TEST_F(Busy, WhatCannotBeAnsweredByItsDeadlineIsRefused) {
  ExpectRefused(TakeWith("a", 10), "3 requests of this tenant wait");
  EXPECT_TRUE(TakeWith("a", 11).ok());
}

TEST_F(Busy, ARefusalSaysWhenItWouldHaveTime) {
  const absl::Status refused = TakeWith("a", 6);
  const absl::Duration after = RetryAfterOf(refused).value_or(absl::ZeroDuration());
  EXPECT_GE(after, absl::Seconds(4));
  EXPECT_LE(after, absl::Seconds(5));
  const absl::Duration needed = NeededTimeOf(refused).value_or(absl::ZeroDuration());
  EXPECT_GE(needed, absl::Seconds(10));
  EXPECT_LE(needed, absl::Seconds(11));
}

TEST_F(Busy, ATenantIsNotRefusedForTheQueueOfAnother) { EXPECT_TRUE(TakeWith("b", 1).ok()); }

TEST_F(Busy, WithoutADeadlineNothingIsRefusedForTime) {
  EXPECT_TRUE(admission_.Take(Visit("a"), At(16)).ok());
}

// The queue ran empty, and for an hour nobody asked for anything. That hour says nothing of how long work takes.
TEST_F(Busy, IdleTimeIsNotTakenForWork) {
  for (size_t i = 8; i < waiting_.size(); ++i) {
    admission_.OnStarted(waiting_[i], At(2 * i));
    admission_.OnEnded(waiting_[i], /*is_served=*/true, At(2 * i + 2));
  }
  for (int i = 0; i < 3; ++i) {
    Admission::Visit visit = Visit("a");
    visit.deadline = At(3600 + 15);
    ASSERT_TRUE(admission_.Take(visit, At(3600)).ok()) << i;
    if (i > 0) continue;
    admission_.OnStarted(visit, At(3600));
    admission_.OnEnded(visit, /*is_served=*/true, At(3602));
  }
}

}  // namespace
}  // namespace orrery
