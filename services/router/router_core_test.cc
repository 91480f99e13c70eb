#include "services/router/router_core.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/refusal_times.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/router_core_fixture.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Kind = Action::Kind;

RankSnapshot Loaded(int num_requests) { return {.is_usable = true, .num_requests = num_requests}; }

// Beside a tenant that floods both ranks, what counts is where one's own requests are.
TEST(PickRank, GoesWhereTheTenantsShareIsLargest) {
  const auto beside = [](int num_own, int num_requests) {
    return RankSnapshot{.is_usable = true,
                        .num_other_tenants = 1,
                        .num_own_requests = num_own,
                        .num_requests = num_requests};
  };
  EXPECT_EQ(PickRank({beside(1, 300), beside(0, 320)}), 1);
  EXPECT_EQ(PickRank({beside(1, 300), beside(1, 299)}), 1);
  // Half of a flooded rank, or a rank shared with one more of its own.
  EXPECT_EQ(PickRank({beside(0, 300), Loaded(1)}), 1);
  EXPECT_EQ(PickRank({beside(0, 300), Loaded(2)}), 0);
}

TEST(PickRank, TakesTheLeastLoadedAndOfEqualsTheFirst) {
  EXPECT_EQ(PickRank({Loaded(2), Loaded(1), Loaded(1)}), 1);
  EXPECT_EQ(PickRank({Loaded(0), Loaded(0)}), 0);
}

TEST(PickRank, NeverTakesAnUnusableRank) {
  EXPECT_EQ(PickRank({{.is_usable = false}, Loaded(9)}), 1);
  EXPECT_EQ(PickRank({{.is_usable = false}, {.is_usable = false}}), std::nullopt);
  EXPECT_EQ(PickRank({}), std::nullopt);
}

TEST_F(RouterCoreTest, RefusesARequestWhenNoRankIsReadyAndSaysWhyOfEachRank) {
  core_.OnUnreachable(0, "connection refused");
  internal::MemberDescription loading =
      Description({.name = "attention-1", .state = internal::MEMBER_STATE_LOADING});
  loading.set_loaded_bytes(12'000'000);
  loading.set_total_bytes(40'000'000);
  core_.OnDescription(1, loading);
  const Action action = core_.OnRequest(1, /*tenant=*/"");
  EXPECT_EQ(action.kind, Kind::kFinish);
  EXPECT_EQ(action.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(action.status.message()),
              AllOf(HasSubstr("attention-0 at h:1 cannot be reached (connection refused)"),
                    HasSubstr("attention-1 is loading (12 of 40 MB)")));
  EXPECT_EQ(core_.num_open_requests(), 0);
}

TEST_F(RouterCoreTest, ANewRequestWaitsAWhileForRanksThatWereThereBefore) {
  SayReady(0);
  core_.OnUnreachable(0, "restarting");
  EXPECT_EQ(core_.OnRequest(1, /*tenant=*/"").kind, Kind::kWait);
  EXPECT_EQ(core_.OnRequest(2, /*tenant=*/"").kind, Kind::kWait);
  EXPECT_EQ(core_.OnRequest(3, /*tenant=*/"").kind, Kind::kWait);
  const Action late = core_.OnDeadline(3);
  EXPECT_EQ(late.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.status.message()), HasSubstr("before a rank was there"));

  Action action;
  for (int i = 0; i < 100; ++i) {
    action = core_.OnRetry(1);
    if (action.kind != Kind::kWait) break;
  }
  EXPECT_EQ(action.kind, Kind::kFinish);
  EXPECT_EQ(action.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(action.status.message()), HasSubstr("restarting"));

  SayReady(0);
  action = core_.OnRetry(2);
  EXPECT_EQ(action.kind, Kind::kStart);
  EXPECT_FALSE(action.is_replay);
  EXPECT_NE(core_.model_of(2), nullptr);
  EXPECT_EQ(core_.num_replays(), 0);
  core_.OnUnreachable(0, "gone");
  EXPECT_EQ(core_.OnRequest(4, /*tenant=*/"").kind, Kind::kWait);
  core_.OnStopping();
  EXPECT_EQ(core_.OnRetry(4).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(core_.num_open_requests(), 1);
}

TEST_F(RouterCoreTest, SpreadsRequestsOverTheRanks) {
  SayReady(0);
  SayReady(1);
  EXPECT_EQ(core_.OnRequest(1, /*tenant=*/"").member, 0);
  EXPECT_EQ(core_.OnRequest(2, /*tenant=*/"").member, 1);
  EXPECT_EQ(core_.OnRequest(3, /*tenant=*/"").member, 0);
  EXPECT_EQ(core_.OnEnded(1).kind, Kind::kFinish);
  EXPECT_EQ(core_.OnEnded(3).kind, Kind::kFinish);
  EXPECT_EQ(core_.OnRequest(4, /*tenant=*/"").member, 0);
}

TEST_F(RouterCoreTest, CountsTheLoadThatOtherRoutersPutOnARank) {
  core_.OnDescription(0, Description({.name = "attention-0", .waiting_requests = 3}));
  SayReady(1);
  EXPECT_EQ(core_.OnRequest(1, /*tenant=*/"").member, 1);
  EXPECT_EQ(core_.OnRequest(2, /*tenant=*/"").member, 1);
}

TEST_F(RouterCoreTest, AFloodOfOneTenantLeavesPlacesToTheOthers) {
  SayReady(0);
  for (int request = 0; request < 4; ++request) core_.OnRequest(request, "flood");
  EXPECT_EQ(core_.OnRequest(4, "flood").status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(core_.OnRequest(4, "second").kind, Kind::kStart);
  EXPECT_EQ(core_.OnRequest(5, "second").kind, Kind::kStart);
  EXPECT_EQ(core_.OnRequest(6, "second").status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(core_.OnRequest(6, "third").kind, Kind::kStart);
}

TEST_F(RouterCoreTest, BoundsOpenRequests) {
  SayReady(0);
  for (int request = 0; request < 4; ++request) {
    EXPECT_EQ(core_.OnRequest(request, /*tenant=*/"").kind, Kind::kStart);
  }
  const Action action = core_.OnRequest(4, /*tenant=*/"");
  EXPECT_EQ(action.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(action.status.message()),
              HasSubstr("4 open requests, 4 of this tenant; of 8 places"));
  core_.OnCancelled(0);
  EXPECT_EQ(core_.OnRequest(4, /*tenant=*/"").kind, Kind::kStart);
}

TEST_F(RouterCoreTest, BoundsWhatOpenRequestsMayHold) {
  RouterCore core({.max_open_requests = 100, .max_request_bytes = 1000}, TwoRanksAndAShard());
  core.OnDescription(0, Description({.name = "attention-0"}));
  const auto refused = [](const Action& action) {
    EXPECT_EQ(action.status.code(), absl::StatusCode::kResourceExhausted) << action.status;
    EXPECT_TRUE(RetryAfterOf(action.status).has_value());
    return std::string(action.status.message());
  };
  // No time makes this one fit.
  const absl::Status too_large = core.OnRequest(0, "a", 1001).status;
  EXPECT_EQ(too_large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(RetryAfterOf(too_large).has_value());
  EXPECT_THAT(std::string(too_large.message()), HasSubstr("may hold 1001 bytes of the router"));
  EXPECT_EQ(core.OnRequest(1, "a", 400).kind, Kind::kStart);
  EXPECT_THAT(refused(core.OnRequest(2, "a", 300)), HasSubstr("may hold 400 bytes"));
  EXPECT_EQ(core.OnRequest(3, "b", 600).kind, Kind::kStart);
  EXPECT_THAT(refused(core.OnRequest(4, "c", 1)), HasSubstr("asks for 1 more"));
  const ModelIdentity& model = *core.membership().model();
  EXPECT_EQ(core.OnResumed(5, "a", model, 1000).kind, Kind::kStart);
  EXPECT_THAT(refused(core.OnResumed(6, "a", model, 1)),
              HasSubstr("resumed requests may hold 1000 bytes of the router, one more 1"));
  core.OnEnded(1);
  core.OnEnded(5);
  EXPECT_EQ(core.OnRequest(7, "c", 400).kind, Kind::kStart);
  EXPECT_EQ(core.OnResumed(8, "a", model, 1000).kind, Kind::kStart);
}

TEST_F(RouterCoreTest, WhatARankWouldRefuseForWantOfTimeIsNotSentThereUntilSomethingEndsThere) {
  SayReady(0);
  const auto ask = [this](int64_t request, const std::string& tenant, int seconds_left) {
    return core_.OnRequest(request, tenant, /*num_bytes=*/0, absl::Seconds(seconds_left));
  };
  const absl::Status refusal = WithNeededTime(
      WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Seconds(2)), absl::Seconds(9));
  const auto fill = [&] {
    EXPECT_EQ(ask(2, "a", 8).kind, Kind::kStart);
    EXPECT_EQ(core_.OnFailed(2, refusal).kind, Kind::kFinish);
  };
  EXPECT_EQ(ask(1, "a", 8).kind, Kind::kStart);
  fill();
  const Action refused = ask(3, "a", 7);
  EXPECT_EQ(refused.kind, Kind::kFinish);
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status.message()),
              HasSubstr("attention-0: one more request of this tenant would take some 9s, and has "
                        "7s until its deadline"));
  EXPECT_EQ(RetryAfterOf(refused.status), absl::Seconds(2));
  EXPECT_EQ(ask(3, "a", 9).kind, Kind::kStart);
  EXPECT_EQ(ask(4, "b", 7).kind, Kind::kStart);
  EXPECT_EQ(core_.OnRequest(5, "a").kind, Kind::kStart);  // without a deadline
  core_.OnEnded(1);
  fill();
  EXPECT_EQ(ask(6, "a", 7).kind, Kind::kFinish);
  SayReady(0);
  fill();
}

TEST_F(RouterCoreTest, ARankThatWouldBeTooLateIsPassedByForOneThatMayBeInTime) {
  SayReady(0);
  SayReady(1);
  EXPECT_EQ(core_.OnRequest(1, "a", /*num_bytes=*/0, absl::Seconds(1)).member, 0);
  const absl::Status refusal =
      WithNeededTime(absl::ResourceExhaustedError("full"), absl::Seconds(2));
  EXPECT_EQ(core_.OnFailed(1, refusal).member, 1);
  for (int64_t request = 2; request < 5; ++request) {
    EXPECT_EQ(core_.OnRequest(request, "a", /*num_bytes=*/0, absl::Seconds(1)).member, 1);
  }
}

TEST_F(RouterCoreTest, ReplaysOnAnotherRankWhenOneIsLostBeforeOrAfterItsFirstToken) {
  SayReady(0);
  SayReady(1);
  const Action first = core_.OnRequest(1, /*tenant=*/"");
  EXPECT_EQ(first.member, 0);
  EXPECT_FALSE(first.is_replay);
  const Action second = core_.OnFailed(1, absl::UnavailableError("gone"));
  EXPECT_EQ(second.kind, Kind::kStart);
  EXPECT_EQ(second.member, 1);
  EXPECT_TRUE(second.is_replay);
  SayReady(0);
  EXPECT_EQ(core_.OnToken(1, 40).kind, Kind::kForward);
  const Action third = core_.OnFailed(1, absl::UnavailableError("gone too"));
  EXPECT_EQ(third.kind, Kind::kStart);
  EXPECT_EQ(third.member, 0);
  EXPECT_TRUE(third.is_replay);
  EXPECT_EQ(core_.num_replays(), 2);
}

TEST_F(RouterCoreTest, WaitsForARankLongerEachTimeAndStartsWhenThereIsOne) {
  SayReady(0);
  core_.OnRequest(1, /*tenant=*/"");
  Action action = core_.OnFailed(1, absl::UnavailableError("gone"));
  absl::Duration delay = absl::ZeroDuration();
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(action.kind, Kind::kWait);
    EXPECT_GE(action.delay, delay);
    EXPECT_LE(action.delay, absl::Milliseconds(250));
    delay = action.delay;
    action = core_.OnRetry(1);
  }
  EXPECT_EQ(core_.num_open_requests(), 1);
  EXPECT_EQ(core_.num_open_requests(/*member=*/0), 0);
  SayReady(0);
  action = core_.OnRetry(1);
  EXPECT_EQ(action.kind, Kind::kStart);
  EXPECT_EQ(action.member, 0);
  EXPECT_EQ(core_.num_open_requests(/*member=*/0), 1);
}

TEST_F(RouterCoreTest, WhileItWaitsItsDeadlineSaysForWhom) {
  SayReady(0);
  core_.OnRequest(1, /*tenant=*/"");
  core_.OnToken(1, 3);
  core_.OnFailed(1, absl::UnavailableError("gone"));
  const Action late = core_.OnDeadline(1);
  EXPECT_EQ(late.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(
      std::string(late.status.message()),
      AllOf(HasSubstr("waited for a rank"), HasSubstr("attention-0 failed after 3 tokens: gone")));
  EXPECT_EQ(core_.num_open_requests(), 0);
}

TEST_F(RouterCoreTest, RanksThatFailARequestInARowEndItAndATokenStartsTheCountAnew) {
  SayReady(0);
  core_.OnRequest(1, /*tenant=*/"");
  const auto fail = [&](int count) {
    Action action;
    for (int i = 0; i < count; ++i) {
      action = core_.OnFailed(1, absl::UnavailableError("gone"));
      SayReady(0);
      if (action.kind == Kind::kWait) action = core_.OnRetry(1);
    }
    return action;
  };
  EXPECT_EQ(fail(4).kind, Kind::kStart);
  core_.OnToken(1, 7);
  EXPECT_EQ(fail(4).kind, Kind::kStart);
  const Action last = fail(1);
  EXPECT_EQ(last.kind, Kind::kFinish);
  EXPECT_EQ(last.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(last.status.message()),
              HasSubstr("5 ranks in a row, the last attention-0 failed after 7 tokens: gone"));
  EXPECT_EQ(core_.num_open_requests(), 0);
}

TEST_F(RouterCoreTest, AReplayThatFindsRanksFullWaitsAndIsNotRefused) {
  SayReady(0);
  SayReady(1);
  core_.OnRequest(1, /*tenant=*/"");
  EXPECT_EQ(core_.OnFailed(1, absl::UnavailableError("gone")).member, 1);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(core_.OnFailed(1, absl::ResourceExhaustedError("full")).kind, Kind::kWait);
    EXPECT_EQ(core_.OnRetry(1).member, 1);
  }
}

TEST_F(RouterCoreTest, AReplayAsksAllRanksBeforeItWaits) {
  SayReady(0);
  SayReady(1);
  core_.OnRequest(1, /*tenant=*/"");
  core_.OnToken(1, 1);
  for (int i = 0; i < 3; ++i) {
    const Action next = core_.OnFailed(1, absl::ResourceExhaustedError("full"));
    EXPECT_EQ(next.kind, Kind::kStart);
    EXPECT_EQ(next.member, 1);
    EXPECT_EQ(core_.OnFailed(1, absl::ResourceExhaustedError("full")).kind, Kind::kWait);
    EXPECT_EQ(core_.OnRetry(1).member, 0);
  }
}

TEST_F(RouterCoreTest, AReplayStaysWithItsModel) {
  SayReady(0);
  core_.OnRequest(1, /*tenant=*/"");
  core_.OnFailed(1, absl::UnavailableError("gone"));
  core_.OnDescription(1, Description({.name = "attention-1", .weights = "w1"}));
  EXPECT_EQ(core_.OnRequest(2, /*tenant=*/"").kind, Kind::kStart);  // now that is the model
  EXPECT_EQ(core_.OnRetry(1).kind, Kind::kWait);
  core_.OnUnreachable(1, "gone");
  SayReady(0);
  EXPECT_EQ(core_.OnRetry(1).member, 0);
}

TEST_F(RouterCoreTest, AResumedRequestIsAReplayFromTheStartBeyondTheQueueWithinItsReserve) {
  SayReady(0);
  const ModelIdentity model = *core_.membership().model();
  for (int request = 0; request < 4; ++request) core_.OnRequest(request, "flood");
  for (int request = 4; request < 12; ++request) {
    const Action action = core_.OnResumed(request, "flood", model);
    EXPECT_EQ(action.kind, Kind::kStart);
    EXPECT_TRUE(action.is_replay);
  }
  const Action full = core_.OnResumed(12, "flood", model);
  EXPECT_EQ(full.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.status.message()), HasSubstr("8 resumed requests of at most 8"));
  EXPECT_EQ(core_.OnRequest(12, "second").kind, Kind::kStart);
  core_.OnEnded(4);
  EXPECT_EQ(core_.OnResumed(4, "flood", model).kind, Kind::kStart);
}

TEST_F(RouterCoreTest, AResumedRequestOfAnotherModelIsRefusedWithBothValues) {
  SayReady(0);
  ModelIdentity other = *core_.membership().model();
  other.fingerprint.files["model.safetensors"] = "w1";
  const Action action = core_.OnResumed(1, /*tenant=*/"", other);
  EXPECT_EQ(action.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(action.status.message()), AllOf(HasSubstr("w0"), HasSubstr("w1")));
  other = *core_.membership().model();
  other.numerics_id = "x86-1 f32";
  EXPECT_EQ(core_.OnResumed(1, /*tenant=*/"", other).status.code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(RouterCoreTest, DoesNotTryAgainWhatWillFailEverywhere) {
  SayReady(0);
  SayReady(1);
  core_.OnRequest(1, /*tenant=*/"");
  EXPECT_EQ(core_.OnFailed(1, absl::InvalidArgumentError("bad id")).kind, Kind::kFinish);
}

TEST_F(RouterCoreTest, AFullRankLeavesTheRequestToAnotherAndStaysUsable) {
  SayReady(0);
  SayReady(1);
  core_.OnRequest(1, /*tenant=*/"");
  EXPECT_EQ(core_.OnFailed(1, absl::ResourceExhaustedError("full")).member, 1);
  EXPECT_TRUE(core_.membership().IsUsable(0));
}

TEST_F(RouterCoreTest, ARankThatFailedGetsNoNewRequestUntilItDescribesItself) {
  SayReady(0);
  SayReady(1);
  core_.OnRequest(1, /*tenant=*/"");
  core_.OnFailed(1, absl::UnavailableError("gone"));
  EXPECT_EQ(core_.OnRequest(2, /*tenant=*/"").member, 1);
  SayReady(0);
  EXPECT_EQ(core_.OnRequest(3, /*tenant=*/"").member, 0);
}

TEST_F(RouterCoreTest, EndsARequestAtItsDeadlineOrWhenTheClientCancels) {
  SayReady(0);
  core_.OnRequest(1, /*tenant=*/"");
  core_.OnToken(1);
  const Action late = core_.OnDeadline(1);
  EXPECT_EQ(late.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.status.message()), HasSubstr("after 1 tokens of attention-0"));
  core_.OnRequest(2, /*tenant=*/"");
  EXPECT_EQ(core_.OnCancelled(2).status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(core_.num_open_requests(), 0);
}

}  // namespace
}  // namespace orrery
