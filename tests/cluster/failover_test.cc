// Members that die in the middle of answers: each answer is what it is in a cluster where nothing happens, to
// the byte. Deaths come at a token, so the clock decides nothing.
#include <atomic>
#include <csignal>
#include <fstream>
#include <functional>
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

// Penalties, several choices, alternatives, stop strings, draws: what a replay has to rebuild.
std::vector<v1::GenerateRequest> ManyRequests() {
  std::vector<v1::GenerateRequest> requests;
  const std::vector<Problem> problems = ReadProblems(4);
  for (size_t i = 0; i < 2 * problems.size(); ++i) {
    v1::GenerateRequest& request = requests.emplace_back();
    *request.mutable_messages() = problems[i % problems.size()].messages;
    request.set_seed(100 + i);
    request.set_max_new_tokens(60);
    request.set_logprobs(true);
    request.set_num_top_logprobs(static_cast<int>(i % 3));
    if (i % 2 == 1) request.set_temperature(0.9f);
    if (i % 2 == 1) request.set_num_choices(2);
    if (i % 4 >= 2) {
      request.set_repetition_penalty(1.1f);
      request.set_presence_penalty(0.2f);
      request.set_frequency_penalty(0.3f);
      request.add_stop("=9");
      request.add_stop("zzz");
      request.set_ignore_eos(true);
    }
  }
  return requests;
}

std::string ToBytes(const Choice& choice) {
  std::string bytes =
      absl::StrCat(choice.reasoning, "\n", choice.content, "\n", choice.finished.reason(),
                   choice.finished.stop(), "\n", choice.finished.usage().output_tokens(), " ",
                   choice.finished.usage().reasoning_tokens(), "\n");
  for (const int32_t id : choice.ids) absl::StrAppend(&bytes, id, " ");
  bytes.append(reinterpret_cast<const char*>(choice.logprobs.data()),
               choice.logprobs.size() * sizeof(float));
  for (const auto& alternatives : choice.top) {
    for (const v1::TokenLogprob& top : alternatives) bytes += top.SerializeAsString();
  }
  return bytes;
}

std::string ToBytes(const absl::StatusOr<Answer>& answer) {
  if (!answer.ok()) return answer.status().ToString();
  std::string bytes;
  for (int k = 0; k < answer->num_choices(); ++k)
    absl::StrAppend(&bytes, ToBytes(answer->choice(k)));
  return bytes;
}

// All at once. `on_delta` is told how many tokens of all answers have come; one at a time.
std::vector<std::string> AskAll(OrreryClient& client,
                                const std::vector<v1::GenerateRequest>& requests,
                                const std::function<void(int)>& on_delta = {}) {
  std::vector<std::string> answers(requests.size());
  std::mutex mutex;
  int num_deltas = 0;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] {
      answers[i] = ToBytes(client.Generate(requests[i], kPatience, [&](const v1::Delta&) {
        const std::lock_guard lock(mutex);
        if (on_delta) on_delta(++num_deltas);
        return true;
      }));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return answers;
}

internal::ClusterFile Cluster(int num_routers, int num_ranks, int num_drafts = 0) {
  Topology topology = AbacusTopology(num_ranks, 1);
  topology.num_routers = num_routers;
  topology.limits.set_num_draft_tokens(num_drafts);
  auto cluster = MakeLocalCluster(topology);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  const std::string path = absl::StrCat(::testing::TempDir(), "/resume.key");
  std::ofstream(path, std::ios::binary) << std::string(32, 'k');
  cluster->set_resume_key_file(path);
  return *std::move(cluster);
}

// A cluster of which members can be killed and come back.
class Mortal {
 public:
  explicit Mortal(internal::ClusterFile cluster) : cluster_(std::move(cluster)) {
    launchers_.push_back(StartFrom(cluster_));
    EXPECT_TRUE(launchers_[0]->WaitUntilReady(kPatience).ok());
  }

  OrreryClient Client() { return Connect(*launchers_[0]); }
  std::string RouterAt(const std::string& address) const {
    for (const auto& router : cluster_.router()) {
      if (router.address() == address) return router.name();
    }
    return "";
  }
  void Kill(const std::string& name, int signal = SIGKILL) {
    for (const auto& launcher : launchers_) launcher->Kill(name, signal).IgnoreError();
  }
  // Waits for its end before.
  void StartAgain(const std::string& name) {
    for (const auto& launcher : launchers_) launcher->WaitForExit(name, absl::Now() + kPatience);
    LaunchOptions options = TestLaunchOptions();
    for (const auto& [role, member] : AllMembers(cluster_)) {
      if (member->name() != name) options.left_out.insert(member->name());
    }
    launchers_.push_back(StartFrom(cluster_, options));
  }
  void AwaitReady() { EXPECT_TRUE(launchers_.back()->WaitUntilReady(kPatience).ok()); }

 private:
  const internal::ClusterFile cluster_;
  std::vector<std::unique_ptr<Launcher>> launchers_;
};

TEST(Failover, ARankThatIsKilledUnderManyAnswersChangesNoneOfThem) {
  for (const int num_drafts : {0, 1}) {
    Mortal cluster(Cluster(1, 2, num_drafts));
    OrreryClient client = cluster.Client();
    const std::vector<v1::GenerateRequest> requests = ManyRequests();
    const std::vector<std::string> undisturbed = AskAll(client, requests);
    for (const auto& [rank, at] : {std::pair("attention-0", 1), {"attention-1", 150}}) {
      const std::vector<std::string> answers = AskAll(client, requests, [&](int num_deltas) {
        if (num_deltas == at) cluster.Kill(rank);
      });
      EXPECT_EQ(answers, undisturbed) << rank << " killed at token " << at;
      cluster.StartAgain(rank);
      cluster.AwaitReady();
    }
  }
}

TEST(Failover, WhenTheOnlyRankIsKilledAnswersPauseUntilItIsBack) {
  Mortal cluster(Cluster(1, 1));
  OrreryClient client = cluster.Client();
  const std::vector<v1::GenerateRequest> requests = ManyRequests();
  const std::vector<std::string> undisturbed = AskAll(client, requests);
  std::atomic<bool> is_killed = false;
  std::thread nurse([&] {
    is_killed.wait(false);
    cluster.StartAgain("attention-0");
    cluster.AwaitReady();  // a child dies with the thread that started it
    is_killed.wait(true);
  });
  const std::vector<std::string> answers = AskAll(client, requests, [&](int num_deltas) {
    if (num_deltas != 100) return;
    cluster.Kill("attention-0");
    is_killed = true;
    is_killed.notify_all();
  });
  is_killed = false;
  is_killed.notify_all();
  nurse.join();
  EXPECT_EQ(answers, undisturbed);
}

TEST(Failover, ARankThatIsAskedToStopHandsItsAnswersOver) {
  Mortal cluster(Cluster(1, 2));
  OrreryClient client = cluster.Client();
  const std::vector<v1::GenerateRequest> requests = ManyRequests();
  const std::vector<std::string> undisturbed = AskAll(client, requests);
  const std::vector<std::string> answers = AskAll(client, requests, [&](int num_deltas) {
    if (num_deltas == 80) cluster.Kill("attention-0", SIGTERM);
  });
  EXPECT_EQ(answers, undisturbed);
}

TEST(Failover, ARouterThatIsKilledUnderManyAnswersCostsClientsAReconnectAndNoToken) {
  Mortal cluster(Cluster(2, 2));
  OrreryClient client = cluster.Client();
  const std::vector<v1::GenerateRequest> requests = ManyRequests();
  const std::vector<std::string> undisturbed = AskAll(client, requests);
  for (const int at : {1, 150}) {
    std::string router;
    const std::vector<std::string> answers = AskAll(client, requests, [&](int num_deltas) {
      if (num_deltas == at) cluster.Kill(router = cluster.RouterAt(client.address()));
    });
    EXPECT_EQ(answers, undisturbed) << router << " killed at token " << at;
    cluster.StartAgain(router);
    cluster.AwaitReady();
  }
}

}  // namespace
}  // namespace orrery
