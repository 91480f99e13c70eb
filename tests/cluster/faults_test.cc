// What a cluster of real processes says when something is wrong with a member, and what still
// works.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/address.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

const auto kTwoHashes = ContainsRegex("[0-9a-f]{32}.*[0-9a-f]{32}");

internal::ClusterFile AbacusCluster(int num_ranks, int num_shards) {
  auto cluster = MakeLocalCluster(AbacusTopology(num_ranks, num_shards));
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return *std::move(cluster);
}

std::string Problems(const v1::ClusterStatusResponse& status) {
  std::string problems;
  for (const v1::MemberStatus& member : status.member()) {
    for (const std::string& problem : member.problem()) {
      absl::StrAppend(&problems, member.name(), ": ", problem, "\n");
    }
  }
  return problems;
}

// Waits until the problems of the members look like this.
template <typename Matcher>
void ExpectProblems(Launcher& launcher, const Matcher& matcher) {
  std::string problems;
  const absl::Status status = launcher.WaitUntilReady(
      kPatience, [&](const v1::ClusterStatusResponse& seen) { problems = Problems(seen); },
      [&] { return ::testing::Value(problems, matcher); });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_THAT(problems, matcher);
}

// How a member ended that cannot start.
std::string LastWords(Launcher& launcher) {
  const absl::Status status = launcher.WaitUntilReady(kPatience);
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  return std::string(status.message());
}

TEST(ClusterFaults, AMemberThatNeverComesUpIsNamedWithTheTime) {
  LaunchOptions options = TestLaunchOptions();
  options.left_out = {"expert-1"};
  const auto launcher = StartFrom(AbacusCluster(1, 2), options);
  ASSERT_NE(launcher, nullptr);
  // First until the router knows everybody else, so that a slow machine changes nothing.
  ExpectProblems(*launcher, AllOf(HasSubstr("expert-1"), HasSubstr("attention-0")));
  const absl::Status status = launcher->WaitUntilReady(absl::ZeroDuration());
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("not ready after"),
                    ContainsRegex("expert-1 at 127.0.0.1:[0-9]+ is unreachable"),
                    HasSubstr("attention-0")));
}

TEST(ClusterFaults, APortInUseIsNamedByTheMemberThatWantedIt) {
  const internal::ClusterFile cluster = AbacusCluster(1, 2);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(ParseHostPort(cluster.expert(0).address())->port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  const auto launcher = StartFrom(cluster);
  ASSERT_NE(launcher, nullptr);
  EXPECT_THAT(LastWords(*launcher),
              AllOf(HasSubstr("expert-0 ended with exit code 1"),
                    HasSubstr(cluster.expert(0).address()), HasSubstr("in use")));
  close(fd);
}

TEST(ClusterFaults, AShardWithOtherWeightsIsRefusedWithBothValues) {
  internal::ClusterFile cluster = AbacusCluster(1, 2);
  cluster.mutable_expert(1)->set_model_dir(MakeModelWithOtherWeights());
  const auto launcher = StartFrom(cluster);
  ASSERT_NE(launcher, nullptr);
  ExpectProblems(*launcher,
                 AllOf(HasSubstr("expert-1"), HasSubstr("model.safetensors"), kTwoHashes));
  v1::GenerateRequest request;
  request.set_text("1+1");
  EXPECT_EQ(Connect(*launcher).Generate(request, kPatience).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(ClusterFaults, ARankWithOtherWeightsIsRefusedWhileTheOtherServes) {
  internal::ClusterFile cluster = AbacusCluster(2, 1);
  cluster.mutable_attention(1)->set_model_dir(MakeModelWithOtherWeights());
  const auto launcher = StartFrom(cluster);
  ASSERT_NE(launcher, nullptr);
  ExpectProblems(*launcher, AllOf(HasSubstr("attention-1: refused"), kTwoHashes));
  OrreryClient client = Connect(*launcher);
  v1::GenerateRequest request;
  *request.mutable_messages() = ReadProblems(1)[0].messages;
  EXPECT_TRUE(client.Generate(request, kPatience).ok());
}

TEST(ClusterFaults, AMemberWithAnotherNumericsIdIsRefusedWithBothValues) {
  internal::ClusterFile cluster = AbacusCluster(1, 2);
  LaunchOptions options = TestLaunchOptions();
  options.left_out = {"expert-1"};
  const auto launcher = StartFrom(cluster, options);
  ASSERT_NE(launcher, nullptr);
  // The same member, from a file with other numbers.
  cluster.mutable_numerics()->set_precision(internal::PRECISION_F32);
  options.left_out = {"router-0", "attention-0", "expert-0"};
  const auto stranger = StartFrom(cluster, options);
  ASSERT_NE(stranger, nullptr);
  ExpectProblems(*launcher,
                 AllOf(HasSubstr("expert-1"), HasSubstr("act=f32"), HasSubstr("act=bf16")));
}

TEST(ClusterFaults, AMemberThatCannotStartIsNamedWithItsLastWords) {
  internal::ClusterFile cluster = AbacusCluster(1, 2);
  cluster.mutable_expert(1)->set_model_dir("/nowhere");
  const auto launcher = StartFrom(cluster);
  ASSERT_NE(launcher, nullptr);
  EXPECT_THAT(LastWords(*launcher),
              AllOf(HasSubstr("expert-1 ended with exit code 1"), HasSubstr("/nowhere")));
}

TEST(ClusterFaults, TheOtherRankServesWhenOneIsKilled) {
  const auto launcher = StartReady(AbacusTopology(2, 1));
  ASSERT_NE(launcher, nullptr);
  ASSERT_TRUE(launcher->Kill("attention-0", SIGKILL).ok());
  const auto exit = launcher->WaitForExit("attention-0", absl::Now() + kPatience);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->signal, SIGKILL);
  OrreryClient client = Connect(*launcher);
  v1::GenerateRequest request;
  *request.mutable_messages() = ReadProblems(1)[0].messages;
  // The router may not know yet: then the request fails on the dead rank before its first token,
  // and is tried on the other.
  for (int i = 0; i < 3; ++i) {
    const auto answer = client.Generate(request, kPatience);
    EXPECT_TRUE(answer.ok()) << answer.status();
  }
  EXPECT_THAT(std::string(launcher->CheckAlive().message()),
              HasSubstr("attention-0 ended with signal 9"));
}

struct ExchangeCase {
  std::string name;
  internal::Exchange exchange = internal::EXCHANGE_UNSPECIFIED;
  std::string carrier;
};

class ClusterExchangeTest : public ::testing::TestWithParam<ExchangeCase> {};

// What carries the rank's rows to this shard; empty if nothing does.
std::string CarrierTo(const v1::ClusterStatusResponse& status, const std::string& shard) {
  for (const v1::MemberStatus& member : status.member()) {
    for (const v1::ExchangeLink& link : member.exchange_link()) {
      if (link.shard() == shard) return link.exchange();
    }
  }
  return "";
}

// The router learns of it with the rank's next description, and a rank that found gRPC first changes
// over a little later.
std::string AwaitCarrierTo(OrreryClient& client, const std::string& shard,
                           const std::string& wanted) {
  std::string carrier;
  const absl::Time deadline = absl::Now() + kPatience;
  while (carrier != wanted && absl::Now() < deadline) {
    const auto status = client.ClusterStatus();
    if (!status.ok()) return std::string(status.status().message());
    carrier = CarrierTo(*status, shard);
  }
  return carrier;
}

TEST_P(ClusterExchangeTest, AnAnswerGoesOnWhenAKilledShardIsBack) {
  internal::ClusterFile cluster = AbacusCluster(1, 2);
  cluster.set_exchange(GetParam().exchange);
  const auto launcher = StartFrom(cluster);
  ASSERT_NE(launcher, nullptr);
  ASSERT_TRUE(launcher->WaitUntilReady(kPatience).ok());
  OrreryClient client = Connect(*launcher);
  v1::GenerateRequest request;
  *request.mutable_messages() = ReadProblems(1)[0].messages;
  const auto undisturbed = client.Generate(request, kPatience);
  ASSERT_TRUE(undisturbed.ok()) << undisturbed.status();
  for (const std::string shard : {"expert-0", "expert-1"}) {
    EXPECT_EQ(AwaitCarrierTo(client, shard, GetParam().carrier), GetParam().carrier) << shard;
  }

  LaunchOptions options = TestLaunchOptions();
  options.left_out = {"router-0", "attention-0", "expert-0"};
  std::unique_ptr<Launcher> again;
  const auto answer = client.Generate(request, kPatience, [&](const v1::Delta&) {
    if (again == nullptr) {
      EXPECT_TRUE(launcher->Kill("expert-1", SIGKILL).ok());
      EXPECT_TRUE(launcher->WaitForExit("expert-1", absl::Now() + kPatience).has_value());
      again = StartFrom(cluster, options);
    }
    return true;
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_NE(again, nullptr);
  EXPECT_EQ(answer->ids, undisturbed->ids);
  EXPECT_EQ(answer->content, undisturbed->content);
}

INSTANTIATE_TEST_SUITE_P(Exchanges, ClusterExchangeTest,
                         ::testing::Values(ExchangeCase{"Auto", internal::EXCHANGE_AUTO, "shm"},
                                           ExchangeCase{"Shm", internal::EXCHANGE_SHM, "shm"},
                                           ExchangeCase{"Grpc", internal::EXCHANGE_GRPC, "grpc"}),
                         [](const ::testing::TestParamInfo<ExchangeCase>& info) {
                           return info.param.name;
                         });

TEST(ClusterFaults, EveryMemberStopsInOrderWhenAskedTo) {
  const auto launcher = StartReady(AbacusTopology(1, 2));
  ASSERT_NE(launcher, nullptr);
  launcher->Stop();
  for (const std::string name : {"router-0", "attention-0", "expert-0", "expert-1"}) {
    const auto exit = launcher->WaitForExit(name, absl::Now() + kPatience);
    ASSERT_TRUE(exit.has_value()) << name;
    EXPECT_EQ(exit->ToString(), "exit code 0") << name;
  }
}

}  // namespace
}  // namespace orrery
