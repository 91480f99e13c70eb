// An upgrade to another numerics id, as deploy/README.md describes it: the new ranks and shards come up beside the
// old ones, routers are started again with a file in which the old ones retire, and what was begun ends as it
// began.
#include <bit>
#include <csignal>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

constexpr int kNumStreams = 8;

v1::GenerateRequest RequestOf(int stream) {
  static const auto* const problems = new std::vector<Problem>(ReadProblems(4));
  v1::GenerateRequest request;
  *request.mutable_messages() = (*problems)[stream % problems->size()].messages;
  request.set_seed(stream);
  request.set_temperature(0.8f);
  request.set_logprobs(true);
  request.set_max_new_tokens(60);
  request.set_ignore_eos(true);
  return request;
}

// Tokens and log-probabilities, or the error.
std::string Text(const absl::StatusOr<Answer>& answer) {
  if (!answer.ok()) return answer.status().ToString();
  std::string text;
  for (size_t i = 0; i < answer->ids.size(); ++i) {
    absl::StrAppend(&text, answer->ids[i], ":",
                    absl::Hex(std::bit_cast<uint32_t>(answer->logprobs[i])), " ");
  }
  return text;
}

std::vector<std::string> AskAll(OrreryClient& client, const std::function<void(int)>& on_token) {
  std::vector<std::string> answers(kNumStreams);
  std::vector<std::thread> threads;
  std::mutex mutex;
  int num_tokens = 0;
  for (int i = 0; i < kNumStreams; ++i) {
    threads.emplace_back([&, i] {
      answers[i] = Text(client.Generate(RequestOf(i), kPatience, [&](const v1::Delta&) {
        const std::lock_guard lock(mutex);
        if (on_token) on_token(++num_tokens);
        return true;
      }));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return answers;
}

internal::ClusterFile Cluster(internal::Precision precision, const std::string& key_file) {
  Topology topology = AbacusTopology(1, 1, precision);
  auto cluster = MakeLocalCluster(topology);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  cluster->set_resume_key_file(key_file);
  return *std::move(cluster);
}

TEST(Upgrade, AnswersEndWithTheNumbersThatTheyWereBegunWithAndNewOnesHaveTheNew) {
  const std::string key_file = absl::StrCat(::testing::TempDir(), "/resume.key");
  std::ofstream(key_file, std::ios::binary) << std::string(32, 'k');
  const internal::ClusterFile old_cluster = Cluster(internal::PRECISION_BF16, key_file);
  const auto old_members = StartFrom(old_cluster);
  ASSERT_TRUE(old_members->WaitUntilReady(kPatience).ok());
  internal::ClusterFile new_cluster = Cluster(internal::PRECISION_F32, key_file);
  new_cluster.mutable_router(0)->set_name("router-1");
  new_cluster.mutable_attention(0)->set_name("attention-1");
  new_cluster.mutable_expert(0)->set_name("expert-1");
  for (const internal::ClusterMember& rank : old_cluster.attention()) {
    *new_cluster.add_attention() = rank;
    new_cluster.mutable_attention(1)->set_retiring(true);
  }
  for (const internal::ClusterMember& shard : old_cluster.expert()) {
    *new_cluster.add_expert() = shard;
    new_cluster.mutable_expert(1)->set_retiring(true);
  }
  // Connected while there is only the old router, so that it asks this one first.
  auto client = OrreryClient::Connect(
      {old_cluster.router(0).address(), new_cluster.router(0).address()}, {}, kPatience);
  ASSERT_TRUE(client.ok()) << client.status();
  const std::vector<std::string> with_old = AskAll(*client, {});

  LaunchOptions options = TestLaunchOptions();
  options.left_out = {"attention-0", "expert-0"};
  const auto new_members = StartFrom(new_cluster, options);
  const absl::Status ready = new_members->WaitUntilReady(kPatience);
  ASSERT_TRUE(ready.ok()) << ready;
  OrreryClient new_client = Connect(*new_members);
  const std::vector<std::string> with_new = AskAll(new_client, {});
  EXPECT_NE(with_new, with_old);

  // In the middle of answers of the old ones, their router goes.
  const std::vector<std::string> across = AskAll(*client, [&](int num_tokens) {
    if (num_tokens == 100) old_members->Kill("router-0", SIGKILL).IgnoreError();
  });
  EXPECT_EQ(across, with_old);
  EXPECT_EQ(AskAll(*client, {}), with_new);

  const auto status = new_client.ClusterStatus();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_TRUE(status->ready());
  int num_retiring = 0;
  for (const v1::MemberStatus& member : status->member()) {
    if (!member.retiring()) continue;
    ++num_retiring;
    EXPECT_EQ(member.state(), "ready") << member.name();
    EXPECT_EQ(member.problem_size(), 0) << member.name() << ": " << member.problem(0);
  }
  EXPECT_EQ(num_retiring, 2);
}

}  // namespace
}  // namespace orrery
