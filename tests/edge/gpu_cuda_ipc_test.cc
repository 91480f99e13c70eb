// exchange/cuda_ipc for real: a rank and a shard in two processes on one GPU. The shard is this program again,
// called with --shard NAME.

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "device/cuda/cuda_device.h"
#include "exchange/conformance.h"
#include "exchange/cuda_ipc/cuda_ipc_layer.h"
#include "exchange/rank_endpoint.h"
#include "exchange/shm/shm_rank.h"
#include "exchange/shm/shm_shard.h"
#include "gtest/gtest.h"

extern char** environ;

namespace orrery {
namespace {

// As those of R1: fp8 out, bf16 back.
ExchangeOptions LargeRows() {
  ExchangeOptions options = SmallRows();
  options.row_bytes = 7392;
  options.result_bytes = 14336;
  return options;
}

std::unique_ptr<ChannelLayer> MakeLayer() {
  return MakeCudaIpcLayer(
             {.edges = {.max_edges = 4, .min_row_bytes = 1, .min_backoff = absl::Milliseconds(10)}},
             MakeCudaDevice(0).value())
      .value();
}

// Answers what comes until it is killed.
int RunShard(const std::string& name) {
  const std::unique_ptr<ChannelLayer> layer = MakeLayer();
  const auto shard =
      MakeShmShardExchange({.exchange = LargeRows(), .name = name, .layer = layer.get()}).value();
  shard->SetAccepting(true);
  while (const std::optional<InboundGroup> group = shard->Receive(absl::InfiniteFuture())) {
    for (const InboundFrame& frame : *group) Answer(*shard, LargeRows(), frame);
  }
  return 0;
}

class ShardOnGpu {
 public:
  explicit ShardOnGpu(const std::string& name) {
    std::string words[] = {"/proc/self/exe", "--shard", name};
    char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    EXPECT_EQ(posix_spawn(&pid_, arguments[0], nullptr, nullptr, arguments, environ), 0);
  }
  ~ShardOnGpu() { Kill(); }
  void Signal(int signal) { kill(pid_, signal); }
  void Kill() {
    if (pid_ == 0) return;
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
};

bool AwaitCarrier(const RankExchange& rank, std::string_view carrier) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (rank.carrier(0) != carrier && absl::Now() < deadline) std::this_thread::yield();
  return rank.carrier(0) == carrier;
}

void ExpectStep(RankExchange& rank, int num_rows, int layer) {
  Work work(LargeRows(), {num_rows, 1}, {0, 0}, /*seed=*/layer);
  const Ticket ticket = rank.Dispatch(layer, Lane::kDecode, work.plan, work.rows).value();
  EXPECT_TRUE(rank.Combine(ticket, Far(), absl::MakeSpan(work.results)).empty());
  work.ExpectResults(layer);
}

TEST(GpuCudaIpc, TwoProcessesOnOneGpuExchangeRowsAndOneMayDie) {
  const absl::StatusOr<std::unique_ptr<Device>> device = MakeCudaDevice(0);
  if (!device.ok()) GTEST_SKIP() << device.status();
  const std::string name = absl::StrCat("test-gpu-", std::random_device()());
  auto shard = std::make_unique<ShardOnGpu>(name);
  const std::unique_ptr<ChannelLayer> layer = MakeLayer();
  RankEndpoint rank(
      LargeRows(), 1,
      layer->OverChannels(
          MakeShmChannels({.exchange = LargeRows(), .rank_name = "rank", .shard_names = {name}})
              .value()));
  ASSERT_TRUE(AwaitCarrier(rank, "cuda_ipc")) << rank.carrier(0) << ": " << rank.carrier_problem(0);
  for (int i = 0; i < 200; ++i) ExpectStep(rank, 1 + i % 32, i);
  EXPECT_EQ(rank.carrier(0), "cuda_ipc") << rank.carrier_problem(0);

  // It stops in mid-step and never goes on.
  shard->Signal(SIGSTOP);
  Work work(LargeRows(), {32, 1}, {0, 0});
  const Ticket ticket = rank.Dispatch(1, Lane::kDecode, work.plan, work.rows).value();
  ExpectAll(rank.Combine(ticket, Far(), absl::MakeSpan(work.results)), 32, EntryState::kLost);
  shard->Kill();

  shard = std::make_unique<ShardOnGpu>(name);
  ASSERT_TRUE(AwaitCarrier(rank, "cuda_ipc")) << rank.carrier(0) << ": " << rank.carrier_problem(0);
  for (int i = 0; i < 20; ++i) ExpectStep(rank, 32, i);
}

}  // namespace
}  // namespace orrery

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--shard") return orrery::RunShard(argv[2]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
