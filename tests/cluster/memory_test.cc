// The memory budget of real processes: whatever clients do, none takes more than it said it would need; and one
// whose budget is too small says so instead of starting.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "tests/cluster/cluster_test_util.h"
#include "tools/bench/process_usage.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::Duration kFloodTime = absl::Seconds(15);
constexpr absl::Duration kSamplePeriod = absl::Milliseconds(100);
constexpr int kNumThreads = 16;
constexpr int kStreamsPerThread = 40;  // in all twice what one rank has places for
constexpr int64_t kRouterBudget = 450'000'000;
constexpr int64_t kRankBudget = 420'000'000;
constexpr int64_t kShardBudget = 350'000'000;

internal::ClusterFile SmallCluster() {
  auto cluster = MakeLocalCluster(AbacusTopology(1, 2));
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  cluster->mutable_router(0)->set_memory_bytes(kRouterBudget);
  cluster->mutable_attention(0)->set_memory_bytes(kRankBudget);
  for (internal::ClusterMember& shard : *cluster->mutable_expert()) {
    shard.set_memory_bytes(kShardBudget);
  }
  return *std::move(cluster);
}

// What costs most: long prompts and long answers, with alternatives and penalties, in several choices.
v1::GenerateRequest LargeRequest(int number) {
  v1::GenerateRequest request;
  const int num_prompt = number % 3 == 0 ? 3500 : 20;
  auto& ids = *request.mutable_ids()->mutable_id();
  for (int i = 0; i < num_prompt; ++i) ids.Add(10 + (i * 7 + number) % 600);
  request.set_max_new_tokens(4000 - num_prompt);
  request.set_ignore_eos(true);
  request.set_num_choices(1 + number % 4);
  request.set_temperature(1.0f);
  request.set_repetition_penalty(1.1f);
  request.set_logprobs(true);
  request.set_num_top_logprobs(number % 2 == 0 ? 20 : 0);
  request.set_tenant(absl::StrCat("tenant-", number % 5));
  return request;
}

struct Counts {
  std::atomic<int> num_opened = 0;
  std::atomic<int> num_refused = 0;
  std::atomic<int> num_tokenized = 0;
};

void ExpectRefusalOrEnd(const grpc::Status& status, Counts& counts) {
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) ++counts.num_refused;
  EXPECT_TRUE(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED ||
              status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
              status.error_code() == grpc::StatusCode::CANCELLED ||
              status.error_code() == grpc::StatusCode::OK)
      << status.error_code() << ": " << status.error_message();
}

// Opens streams and reads little of each, or nothing; then all again.
void OpenAndNotRead(v1::Orrery::Stub& stub, int thread, absl::Time until, Counts& counts) {
  struct Open {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  };
  int number = thread * 1000;
  while (absl::Now() < until) {
    std::vector<std::unique_ptr<Open>> streams;
    for (int i = 0; i < kStreamsPerThread && absl::Now() < until; ++i) {
      Open& open = *streams.emplace_back(std::make_unique<Open>());
      SetDeadline(open.context, until + absl::Seconds(5));
      open.reader = stub.Generate(&open.context, LargeRequest(++number));
      ++counts.num_opened;
      v1::GenerateResponse response;
      if (i % 2 == 0) open.reader->Read(&response);  // `started`, or that it is refused
    }
    // The second half of the time nobody moves: what is unread piles up.
    if (thread % 2 == 0) absl::SleepFor(std::max(until - absl::Now(), absl::ZeroDuration()));
    for (const auto& open : streams) {
      open->context.TryCancel();
      ExpectRefusalOrEnd(open->reader->Finish(), counts);
    }
  }
}

// The longest texts that are taken, of the most pieces, and longer ones.
void Tokenize(v1::Orrery::Stub& stub, int thread, absl::Time until, Counts& counts) {
  const int num_bytes = thread % 2 == 0 ? 570'000 : 4'000'000;
  std::string text;
  while (static_cast<int>(text.size()) < num_bytes) text += "1+";
  while (absl::Now() < until) {
    v1::TokenizeRequest request;
    request.set_text(text);
    grpc::ClientContext context;
    SetDeadline(context, until + absl::Seconds(5));
    v1::TokenizeResponse response;
    const grpc::Status status = stub.Tokenize(&context, request, &response);
    ExpectRefusalOrEnd(status, counts);
    if (status.ok()) ++counts.num_tokenized;
  }
}

// The most that each member had, of samples.
std::map<std::string, int64_t> WatchMemory(absl::Time until) {
  std::map<std::string, int64_t> most;
  while (absl::Now() < until) {
    for (const auto& [name, usage] : TakeUsageSnapshot().children) {
      most[name] = std::max(most[name], usage.anonymous_bytes);
    }
    absl::SleepFor(kSamplePeriod);  // between two looks at what all take
  }
  return most;
}

TEST(MemoryBudget, IsNotExceededWhateverClientsDo) {
  const auto cluster = StartFrom(SmallCluster());
  ASSERT_NE(cluster, nullptr);
  const absl::Status ready = cluster->WaitUntilReady(kPatience);
  ASSERT_TRUE(ready.ok()) << ready;

  const absl::Time until = absl::Now() + kFloodTime;
  Counts counts;
  std::vector<std::thread> threads;
  for (int i = 0; i < kNumThreads; ++i) {
    threads.emplace_back([&, i] {
      // Connections of their own, so that no client's window holds back another.
      const auto channel = MakeChannel(cluster->router_address(), {}, {.own_connection = true});
      ASSERT_TRUE(channel.ok()) << channel.status();
      const auto stub = v1::Orrery::NewStub(*channel);
      if (i % 4 == 3) {
        Tokenize(*stub, i / 4, until, counts);
      } else {
        OpenAndNotRead(*stub, i, until, counts);
      }
    });
  }
  const std::map<std::string, int64_t> most = WatchMemory(until + absl::Seconds(1));
  for (std::thread& thread : threads) thread.join();

  OrreryClient client = Connect(*cluster);
  const auto status = client.ClusterStatus();
  ASSERT_TRUE(status.ok()) << status.status();
  for (const v1::MemberStatus& member : status->member()) {
    ASSERT_TRUE(most.contains(member.name())) << member.name();
    RecordProperty(member.name(), absl::StrCat(most.at(member.name())));
    std::printf("%s: %.1f MB of %.1f needed at most, %.1f may be taken\n", member.name().c_str(),
                most.at(member.name()) * 1e-6, member.needed_bytes() * 1e-6,
                member.budget_bytes() * 1e-6);
    EXPECT_GT(most.at(member.name()), 0) << member.name();
    EXPECT_LE(most.at(member.name()), member.needed_bytes()) << member.name();
    EXPECT_LE(member.needed_bytes(), member.budget_bytes()) << member.name();
  }
  std::printf("%d streams, %d refused, %d texts\n", counts.num_opened.load(),
              counts.num_refused.load(), counts.num_tokenized.load());
  EXPECT_GT(counts.num_refused, 0);
  EXPECT_TRUE(cluster->CheckAlive().ok());
  // And it is none the worse for it.
  v1::GenerateRequest request;
  *request.mutable_messages() = ReadProblems(1)[0].messages;
  const auto answer = client.Generate(request, kPatience);
  EXPECT_TRUE(answer.ok()) << answer.status();
}

TEST(MemoryBudget, ThatIsTooSmallIsSaidByTheMember) {
  for (const internal::Role role :
       {internal::ROLE_ROUTER, internal::ROLE_ATTENTION, internal::ROLE_EXPERT}) {
    internal::ClusterFile cluster = SmallCluster();
    const auto members = AllMembers(cluster);
    const auto member = std::find_if(members.begin(), members.end(),
                                     [&](const auto& other) { return other.role == role; });
    const std::string name = member->member->name();
    const_cast<ClusterMember*>(member->member)->set_memory_bytes(30'000'000);
    const auto launcher = StartFrom(cluster);
    ASSERT_NE(launcher, nullptr);
    const absl::Status status = launcher->WaitUntilReady(kPatience);
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(absl::StrCat(name, " ended with exit code 1")),
                      HasSubstr(absl::StrCat(name, " needs ")), HasSubstr("the process "),
                      HasSubstr("its budget is 30.0 MB, its memory_bytes in the cluster file. ")));
  }
}

}  // namespace
}  // namespace orrery
