#include "services/router/cluster_status.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/router_core_fixture.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

using ClusterStatusTest = RouterCoreTest;

TEST_F(ClusterStatusTest, DescribesItselfAsReadyWaitingOrDraining) {
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
TEST_F(ClusterStatusTest, ShowsWhoBalancesAndThatASpareIsAbsent) {
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
