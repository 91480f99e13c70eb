// Expert shards that die, stall and are stopped under answers, as real processes: every answer is the one
// that an undisturbed cluster gives.
#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

constexpr int kNumShards = 3;
constexpr int kNumStreams = 6;

class ShardFailover : public ::testing::Test {
 protected:
  void SetUp() override {
    auto cluster = MakeLocalCluster(AbacusTopology(1, kNumShards));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    file_ = *std::move(cluster);
    launcher_ = StartFrom(file_);
    ASSERT_NE(launcher_, nullptr);
    ASSERT_TRUE(launcher_->WaitUntilReady(kPatience).ok());
    for (const Problem& problem : ReadProblems(kNumStreams)) {
      v1::GenerateRequest request;
      *request.mutable_messages() = problem.messages;
      requests_.push_back(request);
    }
    for (const v1::GenerateRequest& request : requests_) {
      const auto answer = Connect(*launcher_).Generate(request, kPatience);
      ASSERT_TRUE(answer.ok()) << answer.status();
      expected_.push_back(answer->ids);
    }
  }

  // Asks everything side by side; `disturb` is called in the test's thread once the first token is there.
  void ExpectSameAnswers(const std::function<void()>& disturb) {
    absl::Notification begun;
    std::atomic<bool> is_first = true;
    std::vector<std::thread> streams;
    for (int i = 0; i < kNumStreams; ++i) {
      streams.emplace_back([&, i] {
        const auto answer =
            Connect(*launcher_).Generate(requests_[i], kPatience, [&](const v1::Delta&) {
              if (is_first.exchange(false)) begun.Notify();
              return true;
            });
        EXPECT_TRUE(answer.ok()) << answer.status();
        if (answer.ok()) {
          EXPECT_EQ(answer->ids, expected_[i]);
        }
      });
    }
    if (begun.WaitForNotificationWithTimeout(kPatience)) disturb();
    for (std::thread& stream : streams) stream.join();
  }

  std::string Shard(int index) const { return file_.expert(index).name(); }
  Launcher& LauncherOf(int shard) { return again_[shard] != nullptr ? *again_[shard] : *launcher_; }
  std::string Stop(int shard, int signal) {
    EXPECT_TRUE(LauncherOf(shard).Kill(Shard(shard), signal).ok());
    const auto exit = LauncherOf(shard).WaitForExit(Shard(shard), absl::Now() + kPatience);
    return exit.has_value() ? exit->ToString() : "it does not end";
  }
  // A new process of the same name, until everybody is ready.
  void Restart(int shard) {
    LaunchOptions options = TestLaunchOptions();
    options.left_out = {file_.router(0).name(), file_.attention(0).name()};
    for (int i = 0; i < kNumShards; ++i) {
      if (i != shard) options.left_out.insert(Shard(i));
    }
    again_[shard] = StartFrom(file_, options);
    ASSERT_NE(again_[shard], nullptr);
    OrreryClient client = Connect(*launcher_);
    const absl::Time deadline = absl::Now() + kPatience;
    while (!IsReady(client, Shard(shard)) && absl::Now() < deadline) {
    }
    EXPECT_TRUE(IsReady(client, Shard(shard)));
  }
  static bool IsReady(OrreryClient& client, const std::string& name) {
    const auto status = client.ClusterStatus();
    if (!status.ok()) return false;
    for (const v1::MemberStatus& member : status->member()) {
      if (member.name() == name) return member.state() == "ready";
    }
    return false;
  }

  internal::ClusterFile file_;
  std::unique_ptr<Launcher> launcher_;
  std::vector<std::unique_ptr<Launcher>> again_ =
      std::vector<std::unique_ptr<Launcher>>(kNumShards);  // of shards that were started anew
  std::vector<v1::GenerateRequest> requests_;
  std::vector<std::vector<int32_t>> expected_;
};

// First nobody else holds what it held, and heirs load it; then they hold it, and are asked.
TEST_F(ShardFailover, AShardThatIsKilledTakesNoAnswerWithItNorDoesTheNextOne) {
  ExpectSameAnswers([&] { EXPECT_EQ(Stop(1, SIGKILL), "signal 9 (Killed)"); });
  ExpectSameAnswers([] {});  // it is still gone
  Restart(1);
  ExpectSameAnswers([&] { EXPECT_EQ(Stop(1, SIGKILL), "signal 9 (Killed)"); });
}

TEST_F(ShardFailover, AShardThatStandsStillTakesNoAnswerWithIt) {
  ExpectSameAnswers([&] { EXPECT_TRUE(launcher_->Kill(Shard(2), SIGSTOP).ok()); });
  EXPECT_TRUE(launcher_->Kill(Shard(2), SIGCONT).ok());
  ExpectSameAnswers([] {});
}

TEST_F(ShardFailover, EveryShardIsRestartedInTurnUnderAnswers) {
  for (int shard = 0; shard < kNumShards; ++shard) {
    ExpectSameAnswers([&] {
      EXPECT_EQ(Stop(shard, SIGTERM), "exit code 0") << shard;
      Restart(shard);
    });
  }
  ExpectSameAnswers([] {});
}

}  // namespace
}  // namespace orrery
