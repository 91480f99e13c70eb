// exchange/cuda_ipc for real: a rank in this process and a shard in another one, on one GPU.
#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "absl/time/clock.h"
#include "tests/gpu_check/parts.h"
#include "tests/gpu_check/shard_process.h"

namespace orrery {
namespace {

constexpr char kSuite[] = "CudaIpc";
constexpr int kMaxRows = 32;
// Far more than an operation's, after which an edge is lost.
constexpr absl::Duration kPatience = absl::Minutes(2);

// Random rows, each visiting an expert of its own number, and what comes back.
class Visits {
 public:
  Visits(int num_rows, uint32_t seed) : plan_(1) {  // to peer 0
    std::mt19937 random(seed);
    rows_.resize(num_rows * options_.row_bytes);
    results_.resize(num_rows * options_.result_bytes);
    for (std::byte& byte : rows_) byte = static_cast<std::byte>(random());
    for (int row = 0; row < num_rows; ++row) {
      plan_[0].entries.push_back({.row = row, .expert = row, .result = row});
    }
  }

  absl::StatusOr<CombineReport> Exchange(int layer, RankExchange& rank) {
    ASSIGN_OR_RETURN(const Ticket ticket, rank.Dispatch(layer, Lane::kDecode, plan_, rows_));
    return rank.Combine(ticket, absl::Now() + kPatience, absl::MakeSpan(results_));
  }

  void ExpectResults() const {
    std::vector<std::byte> expected(options_.result_bytes);
    for (const DispatchEntry& entry : plan_[0].entries) {
      EchoOf(entry.expert, {&rows_[entry.row * options_.row_bytes], options_.row_bytes},
             absl::MakeSpan(expected));
      EXPECT_EQ(std::memcmp(expected.data(), &results_[entry.result * options_.result_bytes],
                            options_.result_bytes),
                0)
          << "row " << entry.row;
    }
  }

 private:
  const ExchangeOptions options_ = EchoedRows();
  DispatchPlan plan_;
  std::vector<std::byte> rows_, results_;
};

absl::Status ExpectLayers(RankExchange& rank, int num_layers) {
  for (int layer = 0; layer < num_layers; ++layer) {
    Visits visits(1 + layer % kMaxRows, /*seed=*/layer);
    ASSIGN_OR_RETURN(const CombineReport report, visits.Exchange(layer, rank));
    EXPECT_TRUE(report.empty()) << report.size() << " rows without an answer in layer " << layer;
    visits.ExpectResults();
  }
  return absl::OkStatus();
}

// A shard stops while it has rows, which are lost, and dies; another one takes its place.
absl::Status ExchangeRows(const GpuCheckOptions& options) {
  const ShardAsked asked = {.name = UniqueShardName()};
  ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> shard, StartShard(asked));
  ASSIGN_OR_RETURN(const std::unique_ptr<ChannelLayer> layer, MakeIpcLayer());
  ASSIGN_OR_RETURN(const std::unique_ptr<RankExchange> rank,
                   MakeIpcRank(asked.name, EchoedRows(), layer.get()));
  RETURN_IF_ERROR(AwaitIpc(*rank, *shard));
  RETURN_IF_ERROR(ExpectLayers(*rank, options.is_small ? kMaxRows : 20 * kMaxRows));
  EXPECT_EQ(rank->carrier(0), "cuda_ipc") << rank->carrier_problem(0);

  shard->Signal(SIGSTOP);
  ASSIGN_OR_RETURN(const CombineReport report,
                   Visits(kMaxRows, /*seed=*/1).Exchange(/*layer=*/1, *rank));
  EXPECT_EQ(report.size(), size_t{kMaxRows});
  for (const EntryOutcome& outcome : report) EXPECT_EQ(outcome.state, EntryState::kLost);
  shard.reset();

  ASSIGN_OR_RETURN(shard, StartShard(asked));
  RETURN_IF_ERROR(AwaitIpc(*rank, *shard));
  RETURN_IF_ERROR(ExpectLayers(*rank, kMaxRows));
  EXPECT_EQ(rank->carrier(0), "cuda_ipc") << rank->carrier_problem(0);
  return absl::OkStatus();
}

}  // namespace

void RegisterCudaIpc(const GpuCheckOptions& options) {
  RegisterTest(kSuite, "TwoProcessesExchangeRowsAndOneMayDie", [options] {
    const absl::Status status = ExchangeRows(options);
    EXPECT_TRUE(status.ok()) << status;
  });
}

}  // namespace orrery
