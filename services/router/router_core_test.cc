#include "services/router/router_core.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/retry_after.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/cluster_status.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = Action::Kind;

// Members 0 and 1 are ranks, 2 is a shard.
Membership TwoRanksAndAShard() {
  return Membership({{internal::ROLE_ATTENTION, "attention-0", "h:1"},
                     {internal::ROLE_ATTENTION, "attention-1", "h:2"},
                     {internal::ROLE_EXPERT, "expert-0", "h:3"}},
                    {.config_hash = "c0", .files = {}});
}

struct Said {
  std::string name;
  internal::Role role = internal::ROLE_ATTENTION;
  internal::MemberState state = internal::MEMBER_STATE_READY;
  std::string weights = "w0";
  std::string numerics_id = "x86-1 bf16";
  int waiting_requests = 0;
};

internal::MemberDescription Description(const Said& said) {
  internal::MemberDescription description;
  description.set_name(said.name);
  description.set_role(said.role);
  description.set_state(said.state);
  description.set_numerics_id(said.numerics_id);
  description.mutable_fingerprint()->set_config_hash("c0");
  (*description.mutable_fingerprint()->mutable_files())["model.safetensors"] = said.weights;
  description.mutable_load()->set_waiting_requests(said.waiting_requests);
  return description;
}

class RouterCoreTest : public ::testing::Test {
 protected:
  void SayReady(int rank) {
    core_.OnDescription(rank, Description({.name = absl::StrCat("attention-", rank)}));
  }
  std::string WhyNot(int member) const { return core_.membership().WhyNotUsable(member); }

  RouterCore core_{{.max_open_requests = 4, .max_attempts = 5}, TwoRanksAndAShard()};
};

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

// Ranks 0 and 1 are there to stay, 2 and 3 retire.
class RetiringTest : public ::testing::Test {
 protected:
  static Membership Members() {
    std::vector<MemberInfo> members;
    for (int i = 0; i < 4; ++i) {
      members.push_back({.role = internal::ROLE_ATTENTION,
                         .name = absl::StrCat("attention-", i),
                         .address = absl::StrCat("h:", i),
                         .is_retiring = i >= 2});
    }
    return Membership(std::move(members), {.config_hash = "c0", .files = {}});
  }
  void SayReady(int rank, const std::string& weights = "w0") {
    core_.OnDescription(rank, Description({.name = absl::StrCat("attention-", rank),
                                           .weights = weights,
                                           .numerics_id = rank >= 2 ? "old" : "new"}));
  }
  static ModelIdentity Model(const std::string& numerics_id) {
    return {.fingerprint = {.config_hash = "c0", .files = {{"model.safetensors", "w0"}}},
            .numerics_id = numerics_id};
  }

  RouterCore core_{{.max_open_requests = 4}, Members()};
};

TEST_F(RetiringTest, NewRequestsGoToRanksThatStayWhicheverWereThereFirst) {
  SayReady(2);
  SayReady(3);
  EXPECT_FALSE(core_.IsReady());
  const Action none = core_.OnRequest(1, /*tenant=*/"");
  EXPECT_EQ(none.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(none.status.message()),
              AllOf(HasSubstr("attention-0"), Not(HasSubstr("attention-2"))));
  SayReady(0);
  EXPECT_TRUE(core_.IsReady());
  for (int request = 1; request < 5; ++request) {
    EXPECT_EQ(core_.OnRequest(request, /*tenant=*/"").member, 0);
  }
  EXPECT_EQ(core_.membership().WhyNotUsable(2), "");
}

TEST_F(RetiringTest, WhatWasBegunWithTheirModelGoesOnThereAndNowhereElse) {
  SayReady(0);
  SayReady(2);
  SayReady(3);
  const Action resumed = core_.OnResumed(1, /*tenant=*/"", Model("old"));
  EXPECT_EQ(resumed.member, 2);
  EXPECT_TRUE(resumed.is_replay);
  EXPECT_EQ(core_.OnFailed(1, absl::UnavailableError("gone")).member, 3);
  EXPECT_EQ(core_.OnFailed(1, absl::UnavailableError("gone")).kind, Kind::kWait);
  EXPECT_EQ(core_.OnRetry(1).kind, Kind::kWait);
  SayReady(2, "w1");  // it came back with other weights
  EXPECT_EQ(core_.OnRetry(1).kind, Kind::kWait);
  SayReady(2);
  EXPECT_EQ(core_.OnRetry(1).member, 2);
  EXPECT_EQ(core_.OnResumed(2, /*tenant=*/"", Model("new")).member, 0);
}

TEST_F(RetiringTest, AnAnswerIsRefusedOnlyOnceEveryRankIsKnownToServeSomethingElse) {
  SayReady(0);
  SayReady(2);
  const Action unknown = core_.OnResumed(1, /*tenant=*/"", Model("older"));
  EXPECT_EQ(unknown.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(unknown.status.message()),
              AllOf(HasSubstr("that serves numerics id \"older\""),
                    HasSubstr("attention-0 serves another"), HasSubstr("attention-3 at")));
  SayReady(3);
  const Action known = core_.OnResumed(1, /*tenant=*/"", Model("older"));
  EXPECT_EQ(known.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(core_.num_open_requests(), 0);
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

TEST_F(RouterCoreTest, RefusesARankWithOtherWeightsAndShowsBothValues) {
  SayReady(0);
  core_.OnDescription(1, Description({.name = "attention-1", .weights = "w1"}));
  EXPECT_FALSE(core_.membership().IsUsable(1));
  EXPECT_THAT(WhyNot(1),
              AllOf(HasSubstr("another model than attention-0"), HasSubstr("w0"), HasSubstr("w1")));
}

TEST_F(RouterCoreTest, RefusesARankWithAnotherNumericsIdAndShowsBothValues) {
  SayReady(0);
  core_.OnDescription(1, Description({.name = "attention-1", .numerics_id = "x86-1 f32"}));
  EXPECT_THAT(WhyNot(1), AllOf(HasSubstr("\"x86-1 f32\""), HasSubstr("\"x86-1 bf16\"")));
}

TEST_F(RouterCoreTest, TheServingRankKeepsItsModelWhenOneWithALowerIndexComesBackDifferent) {
  SayReady(0);
  SayReady(1);
  core_.OnUnreachable(0, "restarting");
  core_.OnDescription(0, Description({.name = "attention-0", .weights = "w1"}));
  EXPECT_FALSE(core_.membership().IsUsable(0));
  EXPECT_TRUE(core_.membership().IsUsable(1));
  SayReady(1);  // as it does every second or two
  EXPECT_FALSE(core_.membership().IsUsable(0));
  EXPECT_TRUE(core_.membership().IsUsable(1));
}

TEST_F(RouterCoreTest, AnotherModelIsAcceptedWhenNoAcceptedRankIsLeft) {
  SayReady(0);
  core_.OnDescription(1, Description({.name = "attention-1", .weights = "w1"}));
  EXPECT_FALSE(core_.membership().IsUsable(1));
  core_.OnUnreachable(0, "gone");
  EXPECT_TRUE(core_.membership().IsUsable(1));
}

TEST_F(RouterCoreTest, ARankThatWaitsDoesNotDecideTheModel) {
  core_.OnDescription(
      0, Description(
             {.name = "attention-0", .state = internal::MEMBER_STATE_WAITING, .weights = "w1"}));
  SayReady(1);
  EXPECT_TRUE(core_.membership().IsUsable(1));
  EXPECT_THAT(WhyNot(0), HasSubstr("another model than attention-1"));
}

TEST_F(RouterCoreTest, RefusesARankWhoseConfigurationIsNotTheRouters) {
  internal::MemberDescription description = Description({.name = "attention-0"});
  description.mutable_fingerprint()->set_config_hash("c1");
  core_.OnDescription(0, description);
  EXPECT_THAT(WhyNot(0), AllOf(HasSubstr("the router"), HasSubstr("c0"), HasSubstr("c1")));
}

TEST_F(RouterCoreTest, ShowsAShardWithAnotherModelWhicheverCameFirst) {
  core_.OnDescription(
      2, Description({.name = "expert-0", .role = internal::ROLE_EXPERT, .weights = "w1"}));
  EXPECT_EQ(WhyNot(2), "");
  SayReady(0);
  EXPECT_THAT(WhyNot(2), HasSubstr("another model than attention-0"));
}

TEST_F(RouterCoreTest, RefusesWhoAnswersUnderAnotherName) {
  core_.OnDescription(0, Description({.name = "attention-1"}));
  EXPECT_THAT(WhyNot(0), AllOf(HasSubstr("\"attention-1\""), HasSubstr("\"attention-0\"")));
  core_.OnDescription(1, Description({.name = "attention-1", .role = internal::ROLE_EXPERT}));
  EXPECT_THAT(WhyNot(1), AllOf(HasSubstr("ROLE_EXPERT"), HasSubstr("ROLE_ATTENTION")));
}

TEST_F(RouterCoreTest, DescribesItselfAsReadyWaitingOrDraining) {
  const MemberInfo self = {internal::ROLE_ROUTER, "router-0", "h:0"};
  const auto describe = [&] { return DescribeRouter(core_, self, {}); };
  EXPECT_EQ(describe().state(), internal::MEMBER_STATE_WAITING);
  EXPECT_THAT(describe().problems(0), HasSubstr("attention-0 at h:1 cannot be reached"));
  SayReady(0);
  EXPECT_EQ(describe().state(), internal::MEMBER_STATE_READY);
  EXPECT_EQ(describe().problems_size(), 0);
  core_.OnStopping();
  EXPECT_EQ(describe().state(), internal::MEMBER_STATE_DRAINING);
  EXPECT_EQ(describe().problems(0), "this router is stopping");
}

// Here and elsewhere: who balances says how it stands.
TEST(ClusterStatus, ShowsWhoBalancesAndThatASpareIsAbsent) {
  RouterCore core({.max_open_requests = 4},
                  Membership({{internal::ROLE_ROUTER, "router-0", "h:1"},
                              {internal::ROLE_EXPERT, "expert-0", "h:2"},
                              {internal::ROLE_EXPERT, "expert-1", "h:3", /*is_spare=*/true}},
                             {.config_hash = "c0", .files = {}}));
  const MemberInfo self = {internal::ROLE_ROUTER, "router-1", "h:0"};
  const auto status = [&] {
    return MakeClusterStatus(core, self,
                             DescribeRouter(core, self, {.config_hash = "c0", .files = {}}));
  };
  EXPECT_EQ(status().member(2).state(), "unreachable");
  EXPECT_EQ(status().member(2).problem_size(), 1);
  EXPECT_EQ(status().member(3).state(), "absent");
  EXPECT_EQ(status().member(3).problem_size(), 0);
  EXPECT_FALSE(status().has_balance());

  internal::MemberDescription other =
      Description({.name = "router-0", .role = internal::ROLE_ROUTER});
  other.mutable_balance()->set_imbalance(1.5);
  core.OnDescription(0, other);
  EXPECT_EQ(status().balance().router(), "router-0");
  EXPECT_EQ(status().balance().imbalance(), 1.5);

  core.OnUnreachable(0, "gone");
  internal::BalanceView ours;
  ours.set_imbalance(1.25);
  core.OnBalanced(ours);
  EXPECT_EQ(status().balance().router(), "router-1");
  EXPECT_EQ(status().balance().imbalance(), 1.25);
  EXPECT_EQ(DescribeRouter(core, self, {}).balance().imbalance(), 1.25);
}

}  // namespace
}  // namespace orrery
