// Clients that go away at random moments, whole clusters of real processes: nothing of them may stay.
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

constexpr int kNumClients = 100;
constexpr int kNumThreads = 20;

// Long enough that nobody sees its end.
v1::GenerateRequest EndlessRequest(std::mt19937& random) {
  const auto below = [&](int n) { return static_cast<int>(random() % n); };
  v1::GenerateRequest request;
  auto& ids = *request.mutable_ids()->mutable_id();
  const int num_tokens = 1 + below(300);
  // Prompts that share prefixes, so that blocks have several owners.
  for (int i = 0; i < num_tokens; ++i) ids.Add(10 + i % 50);
  request.set_max_new_tokens(2000);
  request.set_ignore_eos(true);
  request.set_num_choices(1 + below(3));
  request.set_temperature(0.5f);
  request.set_tenant(absl::StrCat("tenant-", below(3)));
  request.set_priority(below(3));
  if (below(4) == 0) request.add_stop("never written, I hope");
  return request;
}

// One client: asks, and goes away before the first token, after a few of them, or at its deadline.
void AskAndLeave(v1::Orrery::Stub& stub, uint32_t seed) {
  std::mt19937 random(seed);
  const v1::GenerateRequest request = EndlessRequest(random);
  grpc::ClientContext context;
  const uint32_t manner = random() % 4;
  // The deadline is one manner of leaving; elsewhere it only keeps a failure from hanging.
  SetDeadline(context,
              absl::Now() + (manner == 0 ? absl::Milliseconds(random() % 300) : kPatience));
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse response;
  if (manner == 0) {
    while (reader->Read(&response)) continue;
  } else if (manner == 2) {
    reader->Read(&response);  // `started`: then it waits, or its prompt is under way
  } else if (manner == 3) {
    const int num_deltas = 1 + static_cast<int>(random() % 40);
    for (int i = 0; i < num_deltas && reader->Read(&response); ++i) continue;
  }
  context.TryCancel();
  const grpc::StatusCode code = reader->Finish().error_code();
  EXPECT_TRUE(code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::DEADLINE_EXCEEDED)
      << "manner " << manner << ": code " << code;
}

// What members still hold of anybody; empty if nothing.
std::string LeftOvers(const v1::ClusterStatusResponse& status) {
  std::string left;
  for (const v1::MemberStatus& member : status.member()) {
    if (member.running_requests() == 0 && member.waiting_requests() == 0 &&
        member.kv_blocks_used() == 0 && member.kv_blocks_leaked() == 0) {
      continue;
    }
    absl::StrAppend(&left, member.name(), ": ", member.running_requests(), " running, ",
                    member.waiting_requests(), " waiting, ", member.kv_blocks_used(),
                    " blocks used, ", member.kv_blocks_leaked(), " leaked\n");
  }
  return left;
}

TEST(ClusterDisconnects, AHundredClientsThatGoAwayLeaveNothingBehind) {
  Topology topology = AbacusTopology(2, 2);
  // Most of them wait, and some are set back: 40 blocks a rank, 51,200 bytes each.
  topology.limits.set_max_running_sequences(6);
  topology.limits.set_kv_cache_bytes(40 * 51200);
  const auto cluster = StartReady(topology);
  ASSERT_NE(cluster, nullptr);
  const auto channel = MakeChannel(cluster->router_address(), {});
  ASSERT_TRUE(channel.ok()) << channel.status();
  const std::unique_ptr<v1::Orrery::Stub> stub = v1::Orrery::NewStub(*channel);
  std::atomic<uint32_t> next = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kNumThreads; ++i) {
    threads.emplace_back([&] {
      for (uint32_t client = next++; client < kNumClients; client = next++) {
        AskAndLeave(*stub, client);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  OrreryClient client = Connect(*cluster);
  const absl::Time deadline = absl::Now() + kPatience;
  std::string left = "not asked";
  while (!left.empty() && absl::Now() < deadline) {
    const auto status = client.ClusterStatus();
    ASSERT_TRUE(status.ok()) << status.status();
    left = LeftOvers(*status);
  }
  EXPECT_EQ(left, "");
  EXPECT_TRUE(cluster->CheckAlive().ok());
  v1::GenerateRequest request;
  *request.mutable_messages() = ReadProblems(1)[0].messages;
  const auto answer = client.Generate(request, kPatience);
  EXPECT_TRUE(answer.ok()) << answer.status();
}

}  // namespace
}  // namespace orrery
