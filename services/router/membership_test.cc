// Whose model is the cluster's, who does not fit it, and ranks that retire.
#include "services/router/membership.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/router_core_fixture.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = Action::Kind;

using MembershipTest = RouterCoreTest;

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
  Action unknown = core_.OnResumed(1, /*tenant=*/"", Model("older"));
  for (int i = 0; i < 100 && unknown.kind == Kind::kWait; ++i) unknown = core_.OnRetry(1);
  EXPECT_EQ(unknown.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(unknown.status.message()),
              AllOf(HasSubstr("that serves numerics id \"older\""),
                    HasSubstr("attention-0 serves another"), HasSubstr("attention-3 at")));
  SayReady(3);
  const Action known = core_.OnResumed(1, /*tenant=*/"", Model("older"));
  EXPECT_EQ(known.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(core_.num_open_requests(), 0);
}

TEST_F(MembershipTest, RefusesARankWithOtherWeightsAndShowsBothValues) {
  SayReady(0);
  core_.OnDescription(1, Description({.name = "attention-1", .weights = "w1"}));
  EXPECT_FALSE(core_.membership().IsUsable(1));
  EXPECT_THAT(WhyNot(1),
              AllOf(HasSubstr("another model than attention-0"), HasSubstr("w0"), HasSubstr("w1")));
}

TEST_F(MembershipTest, RefusesARankWithAnotherNumericsIdAndShowsBothValues) {
  SayReady(0);
  core_.OnDescription(1, Description({.name = "attention-1", .numerics_id = "x86-1 f32"}));
  EXPECT_THAT(WhyNot(1), AllOf(HasSubstr("\"x86-1 f32\""), HasSubstr("\"x86-1 bf16\"")));
}

TEST_F(MembershipTest, TheServingRankKeepsItsModelWhenOneWithALowerIndexComesBackDifferent) {
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

TEST_F(MembershipTest, AnotherModelIsAcceptedWhenNoAcceptedRankIsLeft) {
  SayReady(0);
  core_.OnDescription(1, Description({.name = "attention-1", .weights = "w1"}));
  EXPECT_FALSE(core_.membership().IsUsable(1));
  core_.OnUnreachable(0, "gone");
  EXPECT_TRUE(core_.membership().IsUsable(1));
}

TEST_F(MembershipTest, ARankThatWaitsDoesNotDecideTheModel) {
  core_.OnDescription(
      0, Description(
             {.name = "attention-0", .state = internal::MEMBER_STATE_WAITING, .weights = "w1"}));
  SayReady(1);
  EXPECT_TRUE(core_.membership().IsUsable(1));
  EXPECT_THAT(WhyNot(0), HasSubstr("another model than attention-1"));
}

TEST_F(MembershipTest, RefusesARankWhoseConfigurationIsNotTheRouters) {
  internal::MemberDescription description = Description({.name = "attention-0"});
  description.mutable_fingerprint()->set_config_hash("c1");
  core_.OnDescription(0, description);
  EXPECT_THAT(WhyNot(0), AllOf(HasSubstr("the router"), HasSubstr("c0"), HasSubstr("c1")));
}

TEST_F(MembershipTest, ShowsAShardWithAnotherModelWhicheverCameFirst) {
  core_.OnDescription(
      2, Description({.name = "expert-0", .role = internal::ROLE_EXPERT, .weights = "w1"}));
  EXPECT_EQ(WhyNot(2), "");
  SayReady(0);
  EXPECT_THAT(WhyNot(2), HasSubstr("another model than attention-0"));
}

TEST_F(MembershipTest, RefusesWhoAnswersUnderAnotherName) {
  core_.OnDescription(0, Description({.name = "attention-1"}));
  EXPECT_THAT(WhyNot(0), AllOf(HasSubstr("\"attention-1\""), HasSubstr("\"attention-0\"")));
  core_.OnDescription(1, Description({.name = "attention-1", .role = internal::ROLE_EXPERT}));
  EXPECT_THAT(WhyNot(1), AllOf(HasSubstr("ROLE_EXPERT"), HasSubstr("ROLE_ATTENTION")));
}

}  // namespace
}  // namespace orrery
