// A spare shard, as a real process: nobody waits for it, and it comes and goes while the cluster answers.
#include <csignal>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

constexpr char kSpare[] = "expert-2";

// Whether the router comes to see the spare in this state.
bool ComesToBe(OrreryClient& client, const std::string& state) {
  const absl::Time deadline = absl::Now() + kPatience;
  std::string seen;
  while (seen != state && absl::Now() < deadline) {
    const auto status = client.ClusterStatus();
    if (!status.ok()) continue;
    for (const v1::MemberStatus& member : status->member()) {
      if (member.name() != kSpare) continue;
      seen = member.state();
      EXPECT_TRUE(seen != "absent" || member.problem().empty());
    }
  }
  return seen == state;
}

TEST(ClusterSpares, ASpareIsWaitedForByNobodyAndJoinsAndLeavesUnderAnswers) {
  Topology topology = AbacusTopology(1, 2);
  topology.num_spare_shards = 1;
  const auto file = MakeLocalCluster(topology);
  ASSERT_TRUE(file.ok()) << file.status();
  LaunchOptions options = TestLaunchOptions();
  options.left_out = {kSpare};
  const auto launcher = StartFrom(*file, options);
  ASSERT_NE(launcher, nullptr);
  const absl::Status ready = launcher->WaitUntilReady(kPatience);
  ASSERT_TRUE(ready.ok()) << ready;
  OrreryClient client = Connect(*launcher);
  EXPECT_TRUE(ComesToBe(client, "absent"));

  v1::GenerateRequest request;
  *request.mutable_messages() = ReadProblems(1)[0].messages;
  const auto undisturbed = client.Generate(request, kPatience);
  ASSERT_TRUE(undisturbed.ok()) << undisturbed.status();

  options.left_out = {"router-0", "attention-0", "expert-0", "expert-1"};
  std::unique_ptr<Launcher> spare;
  const auto joined = client.Generate(request, kPatience, [&](const v1::Delta&) {
    if (spare == nullptr) spare = StartFrom(*file, options);
    return true;
  });
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_EQ(joined->ids, undisturbed->ids);
  EXPECT_TRUE(ComesToBe(client, "ready"));

  bool was_asked_to_go = false;
  const auto left = client.Generate(request, kPatience, [&](const v1::Delta&) {
    if (!was_asked_to_go) was_asked_to_go = spare->Kill(kSpare, SIGTERM).ok();
    return true;
  });
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_EQ(left->ids, undisturbed->ids);
  const auto exit = spare->WaitForExit(kSpare, absl::Now() + kPatience);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->ToString(), "exit code 0");
  EXPECT_TRUE(ComesToBe(client, "absent"));
}

}  // namespace
}  // namespace orrery
