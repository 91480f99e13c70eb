// What the loop of a shard does with the frames of several ranks, those that find it busy too, and
// that running them takes no memory.
#include "services/expert/serve_loop.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/allocation_counter.h"
#include "checkpoint/test_files.h"
#include "device/host/host_device.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/loopback/loopback.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"
#include "rpc/server.h"

namespace orrery {
namespace {

constexpr int kNumExperts = 6;  // of fp8_w128, in layers 1 and 2
constexpr int kMoeLayer = 1;
constexpr int kNumRanks = 3;

// A deadline that only a broken loop reaches.
absl::Time Far() { return absl::Now() + absl::Minutes(2); }

class ServeLoopTest : public ::testing::Test {
 protected:
  ServeLoopTest() {
    const ModelConfig config = *ReadModelConfig(GoldenDir("fp8_w128"));
    const WeightFiles files = *WeightFiles::OpenCheckpoint(GoldenDir("fp8_w128"));
    hidden_size_ = config.hidden_size;
    shard_ = *Shard::Load({.files = &files,
                           .config = config,
                           .numerics = {.row_format = RowFormat::kF32},
                           .kernels = kernels_.get(),
                           .device = device_.get(),
                           .stream = stream_.get()},
                          {0, kNumExperts}, &loaded_bytes_);
    loopback_ = *Loopback::Create({.num_ranks = kNumRanks, .num_shards = 1}, Options());
  }

  ExchangeOptions Options() const {
    return {.numerics_id = "test",
            .row_bytes = shard_->row_bytes(),
            .result_bytes = shard_->result_bytes(),
            .max_tickets = 16};
  }

  struct Asked {
    RankExchange* rank = nullptr;
    Ticket ticket;
    std::vector<std::byte> results;
  };
  // Rows of this seed's own, each for two experts.
  Asked Ask(RankExchange& rank, int seed, int num_rows, int layer = kMoeLayer) {
    std::mt19937 random(seed);
    std::vector<float> rows(static_cast<size_t>(num_rows) * hidden_size_);
    for (float& value : rows) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    PeerEntries entries;
    for (int32_t row = 0; row < num_rows; ++row) {
      entries.entries.push_back({.row = row, .expert = row % 3, .result = 2 * row});
      entries.entries.push_back({.row = row, .expert = 4, .result = 2 * row + 1});
    }
    Asked asked{.rank = &rank, .ticket = {}, .results = {}};
    asked.ticket = *rank.Dispatch(
        layer, Lane::kDecode, {entries},
        {reinterpret_cast<const std::byte*>(rows.data()), rows.size() * sizeof(float)});
    asked.results.resize(entries.entries.size() * shard_->result_bytes());
    return asked;
  }
  Asked Ask(int rank, int num_rows, int layer = kMoeLayer) {
    return Ask(loopback_->rank(rank), /*seed=*/rank + 1, num_rows, layer);
  }
  static std::vector<std::byte> Take(Asked asked) {
    EXPECT_TRUE(asked.rank->Combine(asked.ticket, Far(), absl::MakeSpan(asked.results)).empty());
    return std::move(asked.results);
  }

  std::atomic<int64_t> loaded_bytes_ = 0;
  int hidden_size_ = 0;
  std::unique_ptr<Device> device_ = MakeHostDevice();
  std::unique_ptr<Stream> stream_ = device_->MakeStream();
  std::unique_ptr<Kernels> kernels_ = *MakeKernels(Backend::kCpu, CpuVariant::kBest, stream_.get());
  std::unique_ptr<Shard> shard_;
  std::unique_ptr<Loopback> loopback_;
};

// The loop starts when all have asked, so that their frames wait together.
TEST_F(ServeLoopTest, RanksThatWaitTogetherAreOneComputationWithTheBitsOfEachAlone) {
  std::vector<Asked> asked;
  for (int rank = 0; rank < kNumRanks; ++rank) asked.push_back(Ask(rank, 5 + rank));
  asked.push_back(Ask(0, 5, /*layer=*/2));
  ServeLoop loop(&loopback_->shard(0), shard_.get());
  std::vector<std::vector<std::byte>> together;
  for (Asked& a : asked) together.push_back(Take(std::move(a)));
  ServeCounters counters = loop.counters();
  EXPECT_EQ(counters.groups, 2u);
  EXPECT_EQ(counters.frames, 4u);
  EXPECT_EQ(counters.rows, 2u * (5 + 6 + 7 + 5));

  for (int rank = 0; rank < kNumRanks; ++rank) {
    EXPECT_EQ(together[rank], Take(Ask(rank, 5 + rank))) << rank;
  }
  EXPECT_NE(together[3], together[0]);
  counters = loop.counters();
  EXPECT_EQ(counters.groups, 5u);
  EXPECT_EQ(counters.frames, 7u);
}

TEST_F(ServeLoopTest, WhatWasAbandonedBeforeItBeganIsNotComputed) {
  const Asked given_up = Ask(0, 9);
  Asked kept = Ask(1, 3);
  loopback_->rank(0).Abandon(given_up.ticket);
  ServeLoop loop(&loopback_->shard(0), shard_.get());
  Take(std::move(kept));
  loop.Stop();
  EXPECT_EQ(loop.counters().frames, 1u);
  EXPECT_EQ(loop.counters().rows, 6u);
}

// An exchange whose first answer waits for the test, which can see how many frames found the shard
// at work.
class HeldExchange : public ShardExchange {
 public:
  explicit HeldExchange(ShardExchange* exchange) : exchange_(exchange) {}

  void AwaitFirstAnswer() {
    Await([this] { return answering_; });
  }
  void AwaitFoundBusy(int num_frames) {
    Await([&] { return num_found_busy_ >= num_frames; });
  }
  void Release() {
    std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }

  bool Await(absl::Time deadline) override { return exchange_->Await(deadline); }
  void WakeUp() override { exchange_->WakeUp(); }
  std::optional<InboundGroup> Receive(absl::Time deadline) override {
    return exchange_->Receive(deadline);
  }
  void Reply(const InboundFrame& frame, const FrameAnswer& answer) override {
    Note([this] { answering_ = true; });
    Await([this] { return released_; });
    exchange_->Reply(frame, answer);
  }
  void ServeOnArrival(std::function<bool()> serve) override {
    if (serve == nullptr) return exchange_->ServeOnArrival(nullptr);
    exchange_->ServeOnArrival([this, serve] {
      const bool served = serve();
      if (!served) Note([this] { ++num_found_busy_; });
      return served;
    });
  }
  InboxCounters counters() const override { return exchange_->counters(); }
  int num_connections() const override { return exchange_->num_connections(); }
  void Close() override { exchange_->Close(); }

 private:
  void Note(const std::function<void()>& note) {
    std::lock_guard lock(mutex_);
    note();
    changed_.notify_all();
  }
  void Await(const std::function<bool()>& condition) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_until(lock, absl::ToChronoTime(Far()), condition));
  }

  ShardExchange* const exchange_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool answering_ = false, released_ = false;
  int num_found_busy_ = 0;
};

// Two ranks over gRPC, and a first frame that the shard is busy with.
class BusyShardTest : public ServeLoopTest {
 protected:
  BusyShardTest() {
    exchange_->SetAccepting(true);
    for (std::unique_ptr<RankExchange>& rank : ranks_) {
      rank = *MakeGrpcRankExchange(
          {.exchange = Options(), .peers = {{.name = "shard", .address = server_->address()}}});
      EXPECT_TRUE(rank->AwaitConnected(0, Far()));
    }
    first_ = Ask(*ranks_[0], /*seed=*/1, /*num_rows=*/2);
    held_.AwaitFirstAnswer();
  }
  ~BusyShardTest() override {
    held_.Release();
    loop_.Stop();
    for (std::unique_ptr<RankExchange>& rank : ranks_) rank->Close();
    exchange_->Close();
    server_->Stop(absl::Now());
  }

  static constexpr int kNumWaiting = 12;
  // One frame after the other, in turns; each has found the shard busy before the next is sent.
  std::vector<Asked> AskAndFindItBusy(absl::Span<const std::unique_ptr<RankExchange>> ranks,
                                      int num_rows) {
    std::vector<Asked> waiting;
    for (int i = 0; i < kNumWaiting; ++i) {
      waiting.push_back(Ask(*ranks[i % ranks.size()], /*seed=*/10 + i, num_rows));
      held_.AwaitFoundBusy(i + 1);
    }
    return waiting;
  }

  std::unique_ptr<GrpcShardExchange> exchange_ = *MakeGrpcShardExchange({.exchange = Options()});
  std::unique_ptr<Server> server_ =
      *Server::Start({.address = "127.0.0.1:0"}, {exchange_->service()});
  HeldExchange held_{exchange_.get()};
  ServeLoop loop_{&held_, shard_.get()};
  std::unique_ptr<RankExchange> ranks_[2];
  Asked first_;
};

TEST_F(BusyShardTest, FramesThatComeMeanwhileBecomeOneGroup) {
  std::vector<Asked> waiting = AskAndFindItBusy(ranks_, /*num_rows=*/1);
  held_.Release();
  Take(std::move(first_));
  for (Asked& asked : waiting) Take(std::move(asked));
  EXPECT_EQ(loop_.counters().frames, 1u + kNumWaiting);
  EXPECT_EQ(loop_.counters().groups, 2u);
}

TEST_F(BusyShardTest, AFrameThatWaitsForItCanStillBeGivenUp) {
  for (const Asked& given_up :
       AskAndFindItBusy(absl::MakeSpan(ranks_).subspan(1), /*num_rows=*/9)) {
    ranks_[1]->Abandon(given_up.ticket);
  }
  const absl::Time deadline = Far();
  while (exchange_->counters().abandoned < kNumWaiting && absl::Now() < deadline) {
    std::this_thread::yield();
  }
  held_.Release();
  Take(std::move(first_));
  Take(Ask(*ranks_[1], /*seed=*/3, /*num_rows=*/1));
  EXPECT_EQ(loop_.counters().frames, 2u);
  EXPECT_EQ(loop_.counters().rows, 2u * (2 + 1));
}

// The first run lets the kernels get their scratch.
TEST_F(ServeLoopTest, RunningAGroupAllocatesNothing) {
  const std::vector<float> rows(static_cast<size_t>(hidden_size_) * 12, 0.25f);
  InboundGroup group(3);
  for (InboundFrame& frame : group) {
    frame.layer = kMoeLayer;
    frame.num_rows = 12;
    frame.rows = reinterpret_cast<const std::byte*>(rows.data());
    for (int row = 0; row < 12; ++row) {
      for (int expert = 0; expert <= kNumExperts; ++expert) frame.entries.push_back({row, expert});
    }
  }
  shard_->Run(group);
  const int64_t before = NumAllocations();
  for (int i = 0; i < 3; ++i) shard_->Run(group);
  EXPECT_EQ(NumAllocations() - before, 0);
}

}  // namespace
}  // namespace orrery
