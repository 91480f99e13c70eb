// What is special about shared memory: other processes that die or write garbage. What every
// transport promises is in exchange/exchange_*_test.cc.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "exchange/plan.h"
#include "exchange/shm/segment.h"
#include "exchange/shm/shm_rank.h"
#include "exchange/shm/shm_shard.h"
#include "exchange/shm/socket.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

absl::Time Far() { return absl::Now() + absl::Minutes(1); }

ExchangeOptions SmallRows() {
  return {.numerics_id = "f32/test", .row_bytes = 20, .result_bytes = 36};
}

std::string NewName() {
  static std::atomic<int> num_names = 0;
  // Not the process id: sandboxes may share the names of sockets and not those of processes.
  static const unsigned run = std::random_device()();
  return absl::StrCat("shm-test-", run, "-", num_names++);
}

std::unique_ptr<RankExchange> MakeRank(const std::string& shard) {
  return MakeShmRankExchange({.exchange = SmallRows(),
                              .rank_name = "rank",
                              .shard_names = {shard},
                              .max_backoff = absl::Milliseconds(100)})
      .value();
}

std::unique_ptr<ShmShardExchange> MakeShard(const std::string& name) {
  auto shard = MakeShmShardExchange({.exchange = SmallRows(), .name = name}).value();
  shard->SetAccepting(true);
  return shard;
}

void AnswerAll(ShardExchange& shard, const InboundGroup& group) {
  for (const InboundFrame& frame : group) {
    const std::vector<EntryState> states(frame.entries.size(), EntryState::kDone);
    const std::vector<std::byte> results(states.size() * SmallRows().result_bytes, std::byte{7});
    shard.Reply(frame, {.states = states, .results = results});
  }
}

const DispatchPlan kOneRow = {{.peer = 0, .entries = {{.row = 0, .expert = 0, .result = 0}}}};

Ticket Ask(RankExchange& rank) {
  const std::vector<std::byte> row(SmallRows().row_bytes);
  return rank.Dispatch(0, Lane::kDecode, kOneRow, row).value();
}

bool IsAnswered(RankExchange& rank, Ticket ticket) {
  std::vector<std::byte> result(SmallRows().result_bytes);
  return rank.Combine(ticket, Far(), absl::MakeSpan(result)).empty() && result[0] == std::byte{7};
}

// A stranger at the door, who may speak as he likes.
UniqueFd Visit(const std::string& name, Packet packet) {
  UniqueFd socket = ConnectTo(name).value();
  EXPECT_TRUE(SendPacket(socket.get(), packet));
  return socket;
}

absl::Status AwaitPacket(int socket, Packet::Kind kind) {
  while (absl::Now() < Far()) {
    const absl::StatusOr<Packet> packet = ReceivePacket(socket);
    if (!packet.ok()) return packet.status();
    if (packet->kind == kind) return absl::OkStatus();
    std::this_thread::yield();
  }
  return absl::DeadlineExceededError("no packet");
}

Packet Hello(UniqueFd memory) {
  Packet hello;
  hello.kind = Packet::Kind::kHello;
  hello.ring_bytes = kRingBytes;
  hello.memory = std::move(memory);
  return hello;
}

// Runs in a process of its own, forked before this one has threads.
pid_t Fork(const std::function<void()>& run) {
  const pid_t child = ::fork();
  if (child == 0) {
    run();
    ::_exit(0);
  }
  return child;
}

void Kill(pid_t child) {
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
}

// First, as they fork.
TEST(ShmProcesses, ARankNoticesAShardThatIsKilledAndFindsTheNextOne) {
  const std::string name = NewName();
  const pid_t child = Fork([&] {
    const auto shard = MakeShard(name);
    if (const auto group = shard->Receive(Far())) AnswerAll(*shard, *group);
    shard->Receive(Far());  // and holds it
    ::pause();
  });
  ASSERT_GT(child, 0);
  const auto rank = MakeRank(name);
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  EXPECT_TRUE(IsAnswered(*rank, Ask(*rank)));
  const Ticket ticket = Ask(*rank);
  Kill(child);
  std::vector<std::byte> result(SmallRows().result_bytes);
  const CombineReport report = rank->Combine(ticket, Far(), absl::MakeSpan(result));
  ASSERT_EQ(report.size(), 1u);
  EXPECT_EQ(report[0].state, EntryState::kLost);

  const auto next = MakeShard(name);
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  std::thread serving([&] {
    if (const auto group = next->Receive(Far())) AnswerAll(*next, *group);
  });
  EXPECT_TRUE(IsAnswered(*rank, Ask(*rank)));
  serving.join();
}

TEST(ShmProcesses, AShardForgetsTheFramesOfARankThatIsKilled) {
  const std::string name = NewName();
  const pid_t child = Fork([&] {
    const auto rank = MakeRank(name);
    if (rank->AwaitConnected(0, Far())) Ask(*rank);
    ::pause();
  });
  ASSERT_GT(child, 0);
  const auto shard = MakeShard(name);
  ASSERT_TRUE(shard->Await(Far()));
  Kill(child);
  const absl::Time deadline = Far();
  while (shard->counters().orphaned == 0 && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(shard->counters().orphaned, 1u);
  EXPECT_FALSE(shard->Receive(absl::Now()).has_value());
}

TEST(ShmExchange, ServesOnTheThreadThatBroughtTheFrame) {
  const std::string name = NewName();
  const auto shard = MakeShard(name);
  const auto rank = MakeRank(name);
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  shard->ServeOnArrival([&] {
    if (const auto group = shard->Receive(absl::InfinitePast())) AnswerAll(*shard, *group);
    return true;
  });
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(IsAnswered(*rank, Ask(*rank)));
  shard->ServeOnArrival(nullptr);
}

// 40 frames of 300,000 bytes, many times what the ring holds, before anybody reads a reply.
TEST(ShmExchange, QueuesWhatTheRingDoesNotHold) {
  ExchangeOptions options = SmallRows();
  options.row_bytes = options.result_bytes = 300'000;
  const std::string name = NewName();
  auto shard = MakeShmShardExchange({.exchange = options, .name = name}).value();
  shard->SetAccepting(true);
  const auto rank = MakeShmRankExchange({.exchange = options, .shard_names = {name}}).value();
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  DispatchPlan plan = {{.peer = 0, .entries = {}}};
  for (int i = 0; i < 40; ++i) plan[0].entries.push_back({.row = i, .expert = 0, .result = i});
  std::vector<std::byte> rows(40 * options.row_bytes), results(40 * options.result_bytes);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::byte>(i / 7);
  const Ticket ticket = rank->Dispatch(0, Lane::kBulk, plan, rows).value();
  int num_frames = 0;
  while (num_frames < 40) {
    const auto group = shard->Receive(Far());
    ASSERT_TRUE(group.has_value());
    for (const InboundFrame& frame : *group) {
      ++num_frames;
      shard->Reply(frame,
                   {.states = {EntryState::kDone}, .results = {frame.rows, options.result_bytes}});
    }
  }
  EXPECT_TRUE(rank->Combine(ticket, Far(), absl::MakeSpan(results)).empty());
  EXPECT_TRUE(rows == results);
}

TEST(ShmExchange, LosesAPeerWhoseQueueIsFull) {
  ExchangeOptions options = SmallRows();
  options.row_bytes = 300'000;
  options.max_queued_bytes = kMaxFrameBytes;
  const std::string name = NewName();
  // Accepts, and never reads: a listener without anybody behind it.
  const UniqueFd door = ListenAt(name).value();
  const auto rank = MakeShmRankExchange({.exchange = options, .shard_names = {name}}).value();
  std::vector<UniqueFd> accepted;
  while (accepted.size() < kNumLanes) {
    UniqueFd socket = AcceptFrom(door.get()).value();
    if (!socket.valid()) continue;
    Packet packet;
    packet.kind = Packet::Kind::kAccepted;
    EXPECT_TRUE(SendPacket(socket.get(), packet));
    accepted.push_back(std::move(socket));
  }
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  DispatchPlan plan = {{.peer = 0, .entries = {}}};
  for (int i = 0; i < 10; ++i) plan[0].entries.push_back({.row = i, .expert = 0, .result = i});
  const std::vector<std::byte> rows(10 * options.row_bytes);
  const Ticket ticket = rank->Dispatch(0, Lane::kDecode, plan, rows).value();
  std::vector<std::byte> results(10 * options.result_bytes);
  const CombineReport report = rank->Combine(ticket, absl::Now(), absl::MakeSpan(results));
  EXPECT_EQ(std::count_if(report.begin(), report.end(),
                          [](const EntryOutcome& o) { return o.state == EntryState::kLost; }),
            6);  // three lie in the ring, one in the queue
}

TEST(ShmExchange, SendsStrangersAwayWhoseHelloMakesNoSense) {
  const std::string name = NewName();
  const auto shard = MakeShard(name);
  std::vector<Packet> bad;
  bad.push_back(Hello({}));  // no memory
  bad.push_back(Hello(UniqueFd(::memfd_create("unsealed", MFD_CLOEXEC))));
  bad.push_back(Hello(UniqueFd(::dup(STDERR_FILENO))));                     // no memory either
  bad.push_back(Hello(UniqueFd(::dup(Segment::Create(64 * 1024)->fd()))));  // too small
  bad.push_back(Hello(UniqueFd(::dup(Segment::Create(kRingBytes)->fd()))));
  bad.back().ring_bytes = 2 * kRingBytes;
  bad.push_back(Hello(UniqueFd(::dup(Segment::Create(kRingBytes)->fd()))));
  bad.back().ring_bytes = kRingBytes + 8;
  bad.push_back(Hello(UniqueFd(::dup(Segment::Create(kRingBytes)->fd()))));
  bad.back().lane = kNumLanes;
  bad.emplace_back().kind = Packet::Kind::kAccepted;
  for (const Packet& packet : bad) {
    const UniqueFd socket = Visit(name, {.kind = packet.kind,
                                         .lane = packet.lane,
                                         .ring_bytes = packet.ring_bytes,
                                         .memory = UniqueFd(::dup(packet.memory.get()))});
    EXPECT_TRUE(AwaitPacket(socket.get(), Packet::Kind::kEnd).ok());
    EXPECT_FALSE(AwaitPacket(socket.get(), Packet::Kind::kEnd).ok());
  }
  const auto rank = MakeRank(name);
  EXPECT_TRUE(rank->AwaitConnected(0, Far()));
}

TEST(ShmExchange, EndsTheConnectionOfARankThatWritesGarbage) {
  const std::string name = NewName();
  const auto shard = MakeShard(name);
  for (const uint64_t tail : {uint64_t{3}, uint64_t{64}, ~uint64_t{0}}) {
    const Segment segment = Segment::Create(kRingBytes).value();
    const UniqueFd socket = Visit(name, Hello(UniqueFd(::dup(segment.fd()))));
    ASSERT_TRUE(AwaitPacket(socket.get(), Packet::Kind::kAccepted).ok());
    segment.to_shard().control->tail = tail;
    RingBell(socket.get());
    EXPECT_TRUE(AwaitPacket(socket.get(), Packet::Kind::kEnd).ok());
  }
  const auto rank = MakeRank(name);
  EXPECT_TRUE(rank->AwaitConnected(0, Far()));
}

TEST(ShmExchange, SendsAwayWhoDoesNotIntroduceHimself) {
  const std::string name = NewName();
  auto shard = MakeShmShardExchange(
                   {.exchange = SmallRows(), .name = name, .hello_timeout = absl::Milliseconds(20)})
                   .value();
  const UniqueFd socket = ConnectTo(name).value();
  EXPECT_FALSE(AwaitPacket(socket.get(), Packet::Kind::kAccepted).ok());
}

TEST(ShmExchange, RefusesRanksUntilItIsReady) {
  const std::string name = NewName();
  auto shard = MakeShmShardExchange({.exchange = SmallRows(), .name = name}).value();
  const auto rank = MakeRank(name);
  const UniqueFd socket = Visit(name, Hello(UniqueFd(::dup(Segment::Create(kRingBytes)->fd()))));
  EXPECT_TRUE(AwaitPacket(socket.get(), Packet::Kind::kEnd).ok());
  EXPECT_FALSE(rank->connected(0));
  shard->SetAccepting(true);
  EXPECT_TRUE(rank->AwaitConnected(0, Far()));
}

TEST(ShmExchange, TakesANameOnlyOnce) {
  const std::string name = NewName();
  const auto shard = MakeShard(name);
  EXPECT_FALSE(MakeShmShardExchange({.exchange = SmallRows(), .name = name}).ok());
  EXPECT_FALSE(MakeShmShardExchange({.exchange = SmallRows(), .name = ""}).ok());
  EXPECT_FALSE(MakeShmShardExchange({.exchange = SmallRows(), .name = std::string(200, 'x')}).ok());
}

}  // namespace
}  // namespace orrery
