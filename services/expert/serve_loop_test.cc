// What the loop of a shard does with the frames of several ranks, and that running them takes no
// memory.
#include "services/expert/serve_loop.h"

#include <atomic>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "checkpoint/test_files.h"
#include "device/host/host_device.h"
#include "exchange/loopback/loopback.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"
#include "services/expert/allocation_counter.h"

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
    const Checkpoint checkpoint = *Checkpoint::Open(GoldenDir("fp8_w128"));
    hidden_size_ = config.hidden_size;
    shard_ = *Shard::Load({.checkpoint = &checkpoint,
                           .config = config,
                           .numerics = {.row_format = RowFormat::kF32},
                           .kernels = kernels_.get(),
                           .device = device_.get(),
                           .stream = stream_.get()},
                          {0, kNumExperts}, &loaded_bytes_);
    loopback_ = *Loopback::Create({.num_ranks = kNumRanks, .num_shards = 1},
                                  {.numerics_id = "test",
                                   .row_bytes = shard_->row_bytes(),
                                   .result_bytes = shard_->result_bytes()});
  }

  struct Asked {
    int rank = 0;
    Ticket ticket;
    std::vector<std::byte> results;
  };
  // Rows of this rank's own, each for two experts.
  Asked Ask(int rank, int num_rows, int layer = kMoeLayer) {
    std::mt19937 random(rank + 1);
    std::vector<float> rows(static_cast<size_t>(num_rows) * hidden_size_);
    for (float& value : rows) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    PeerEntries entries;
    for (int32_t row = 0; row < num_rows; ++row) {
      entries.entries.push_back({.row = row, .expert = row % 3, .result = 2 * row});
      entries.entries.push_back({.row = row, .expert = 4, .result = 2 * row + 1});
    }
    Asked asked{.rank = rank, .ticket = {}, .results = {}};
    asked.ticket = *loopback_->rank(rank).Dispatch(
        layer, Lane::kDecode, {entries},
        {reinterpret_cast<const std::byte*>(rows.data()), rows.size() * sizeof(float)});
    asked.results.resize(entries.entries.size() * shard_->result_bytes());
    return asked;
  }
  std::vector<std::byte> Take(Asked asked) {
    EXPECT_TRUE(loopback_->rank(asked.rank)
                    .Combine(asked.ticket, Far(), absl::MakeSpan(asked.results))
                    .empty());
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
