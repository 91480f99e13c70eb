// More requests than a cluster has places for: each ends with the right answer, or is told at once that there
// is no room and when to try again.
#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/refusal_times.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

constexpr int kNumClients = 48;
constexpr int kRequestsPerClient = 5;

struct Ends {
  std::atomic<int> num_answered = 0;
  std::atomic<int> num_refused = 0;
  std::atomic<int> num_late = 0;
};

void Ask(OrreryClient& client, const Problem& problem, absl::Duration timeout, Ends& ends) {
  v1::GenerateRequest request;
  *request.mutable_messages() = problem.messages;
  const absl::StatusOr<Answer> answer = client.Generate(request, timeout);
  if (answer.ok()) {
    ++ends.num_answered;
    EXPECT_EQ(answer->ids, problem.reference_ids);
  } else if (absl::IsResourceExhausted(answer.status())) {
    ++ends.num_refused;
    EXPECT_TRUE(RetryAfterOf(answer.status()).has_value()) << answer.status();
  } else {
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded) << answer.status();
    ++ends.num_late;
  }
}

TEST(Overload, EveryRequestIsAnsweredRightOrRefusedOrLate) {
  // Greedy answers in f32 are known beyond doubt, by an independent implementation.
  Topology topology = AbacusTopology(1, 2, internal::PRECISION_F32);
  topology.limits.set_max_running_sequences(4);
  topology.limits.set_max_waiting_requests(4);
  const auto cluster = StartReady(topology);
  ASSERT_NE(cluster, nullptr);
  const std::vector<Problem> problems = ReadProblems(6);
  Ends ends;
  std::vector<std::thread> clients;
  for (int i = 0; i < kNumClients; ++i) {
    clients.emplace_back([&, i] {
      OrreryClient client = Connect(*cluster);
      for (int k = 0; k < kRequestsPerClient; ++k) {
        // Some have less time than the queue would take.
        const absl::Duration timeout = i % 3 == 0 ? absl::Milliseconds(500) : kPatience;
        Ask(client, problems[(i + k) % problems.size()], timeout, ends);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(ends.num_answered + ends.num_refused + ends.num_late, kNumClients * kRequestsPerClient);
  EXPECT_GT(ends.num_answered, 0);
  EXPECT_GT(ends.num_refused, 0);
  // And it is none the worse for it.
  OrreryClient client = Connect(*cluster);
  Ends after;
  Ask(client, problems[0], kPatience, after);
  EXPECT_EQ(after.num_answered, 1);
  EXPECT_TRUE(cluster->CheckAlive().ok());
}

}  // namespace
}  // namespace orrery
