// Which way a rank takes to a shard by itself, in a build with CUDA: exchange/factory, on the stand-ins.

#include <memory>

#include "absl/time/clock.h"
#include "exchange/conformance.h"
#include "exchange/factory/layer.h"
#include "exchange/factory/rank_exchange.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/shm/shm_listener.h"
#include "rpc/server.h"
#include "tests/cuda/ipc.h"
#include "tests/edge/edge_cluster.h"

namespace orrery {
namespace {

// A shard as an expert process has it: gRPC and, if it is on the rank's host, shared memory beside it.
class ChoiceTest : public ::testing::Test {
 protected:
  ChoiceTest() { cuda_on_host::LetProcessesOpenTheirOwn(); }
  ~ChoiceTest() override { Misbehave(""); }

  struct Shard {
    bool is_on_host = true;
    bool is_on_gpu = true;
  };
  void StartShard(const Shard& shard) {
    exchange_ = MakeGrpcShardExchange({.exchange = SmallRows()}).value();
    exchange_->SetAccepting(true);
    server_ = Server::Start({.address = "127.0.0.1:0"}, {exchange_->service()}).value();
    if (!shard.is_on_host) return;
    if (shard.is_on_gpu) layer_ = MakeCudaIpcLayerOfThisBuild(/*num_peers=*/1, /*gpu=*/0).value();
    door_ = ShmListener::Listen(
                {.exchange = SmallRows(), .name = server_->address(), .layer = layer_.get()},
                exchange_->endpoint())
                .value();
    door_->SetAccepting(true);
  }
  void StartRank(bool is_on_gpu) {
    rank_ = MakeRankExchange({.exchange = SmallRows(),
                              .rank_name = "rank",
                              .peers = {{"shard", server_->address()}},
                              .is_on_gpu = is_on_gpu,
                              .max_backoff = absl::Milliseconds(100)})
                .value();
  }
  void ExpectStep() {
    ServingShard serving(*exchange_, SmallRows());
    Work work(SmallRows(), {4, 1}, {0, 0});
    const Ticket ticket = rank_->Dispatch(1, Lane::kDecode, work.plan, work.rows).value();
    EXPECT_TRUE(rank_->Combine(ticket, Far(), absl::MakeSpan(work.results)).empty());
    work.ExpectResults(1);
    exchange_->Close();
  }

  std::unique_ptr<ChannelLayer> layer_;
  std::unique_ptr<GrpcShardExchange> exchange_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<ShmListener> door_;
  std::unique_ptr<RankExchange> rank_;
};

TEST_F(ChoiceTest, TakesCudaIpcBetweenTwoOnGpusOfOneHost) {
  StartShard({});
  StartRank(/*is_on_gpu=*/true);
  EXPECT_TRUE(AwaitCarrier(*rank_, 0, "cuda_ipc"));
  EXPECT_EQ(rank_->carrier_problem(0), "");
  ExpectStep();
}

TEST_F(ChoiceTest, TakesSharedMemoryWhereTheRankIsOnNoGpu) {
  StartShard({});
  StartRank(/*is_on_gpu=*/false);
  EXPECT_TRUE(AwaitCarrier(*rank_, 0, "shm"));
  EXPECT_EQ(rank_->carrier_problem(0), "");
  ExpectStep();
}

TEST_F(ChoiceTest, TakesSharedMemoryWhereTheShardIsOnNoGpuAndSaysSo) {
  StartShard({.is_on_gpu = false});
  StartRank(/*is_on_gpu=*/true);
  EXPECT_TRUE(AwaitCarrier(*rank_, 0, "shm"));
  EXPECT_TRUE(AwaitProblem(*rank_, 0, "this rank has cuda_ipc, the shard nothing of the kind"));
  ExpectStep();
}

TEST_F(ChoiceTest, TakesSharedMemoryWhereMemoryCannotBeOpenedAndSaysSo) {
  Misbehave("never_joins");
  StartShard({});
  StartRank(/*is_on_gpu=*/true);
  EXPECT_TRUE(AwaitProblem(*rank_, 0, "no cuda_ipc for now"));
  EXPECT_TRUE(AwaitCarrier(*rank_, 0, "shm"));
  ExpectStep();
}

TEST_F(ChoiceTest, TakesGrpcToAnotherHost) {
  StartShard({.is_on_host = false});
  StartRank(/*is_on_gpu=*/true);
  EXPECT_TRUE(AwaitCarrier(*rank_, 0, "grpc"));
  ExpectStep();
}

}  // namespace
}  // namespace orrery
