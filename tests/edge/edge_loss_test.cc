// What carriers can get wrong, over both of them: peers that die, stop or never join, operations that never end,
// ends that hang. Whatever happens, nothing hangs, the channel below carries the rows meanwhile, and the edge
// forms again.

#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/cuda/ipc.h"
#include "tests/edge/loss_test.h"
#include "tests/nccl/stand_in.h"

namespace orrery {
namespace {

const auto kCarriers = ::testing::Values(CarrierKind::kNccl, CarrierKind::kCudaIpc);
std::string NameOf(const ::testing::TestParamInfo<CarrierKind>& info) {
  return info.param == CarrierKind::kNccl ? "Nccl" : "CudaIpc";
}

class EdgeLoss : public LossTest, public ::testing::WithParamInterface<CarrierKind> {
 protected:
  EdgeLoss() : LossTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Carriers, EdgeLoss, kCarriers, NameOf);

TEST_P(EdgeLoss, APeerThatIsKilledInMidStepLosesItsFramesAndIsReachedAgain) {
  Start("hold");
  ASSERT_TRUE(AwaitCarrier(*rank_, 0, CarrierName(kind_)));
  Work work = FourRows();
  const Ticket ticket = Dispatch(work);
  ASSERT_NE(shard_->AwaitLine("received"), "");
  shard_->Signal(SIGKILL);
  ExpectLost(ticket, work);
  StartShard();
  ExpectServedByCarrier();
}

// Its sockets stay open and take what is sent: only the rows that are never taken tell.
TEST_P(EdgeLoss, APeerThatStandsStillLosesItsFramesAndIsReachedAgainWhenItGoesOn) {
  Start();
  ExpectServedByCarrier();
  shard_->Signal(SIGSTOP);
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  EXPECT_FALSE(rank_->connected(0));
  shard_->Signal(SIGCONT);
  ExpectServedByCarrier();
}

TEST_P(EdgeLoss, TheChannelBelowCarriesTheRowsWhileAPeerNeverJoins) {
  Start("never_joins");
  ASSERT_NE(shard_->AwaitLine(
                absl::StrCat("a rank (decode): no ", std::string(CarrierName(kind_)), " for now")),
            "");
  ExpectServedByBelow();
  EXPECT_TRUE(AwaitProblem(*rank_, 0, "for now: "));
  shard_->Misbehave("");
  ExpectServedByCarrier();
  EXPECT_EQ(rank_->carrier_problem(0), "");
}

TEST_P(EdgeLoss, AnOperationThatNeverEndsIsGivenUp) {
  Start();
  ExpectServedByCarrier();
  Misbehave("stalls");
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  ExpectServedByBelow();
  Misbehave("");
  ExpectServedByCarrier();
}

// What cannot be closed keeps its slots; when there are no others, the edge says so and stays below.
TEST_P(EdgeLoss, AnEndThatHangsHoldsUpNobody) {
  EdgeOptions options = QuickEdges();
  options.max_edges = 3;
  Start("", options);
  ExpectServedByCarrier();
  Misbehave("stalls abort_hangs");
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  ASSERT_TRUE(AwaitProblem(*rank_, 0, "slots for rows are in use"));
  ExpectServedByBelow();
  Misbehave("");
  ExpectServedByCarrier();
}

class EdgeLayers : public ::testing::TestWithParam<CarrierKind> {
 protected:
  ~EdgeLayers() override { Misbehave(""); }
};
INSTANTIATE_TEST_SUITE_P(Carriers, EdgeLayers, kCarriers, NameOf);

TEST_P(EdgeLayers, ARankSettlesOnTheChannelBelowWhereTheShardHasNoLayer) {
  const auto layer = MakeLayer(GetParam(), QuickEdges()).value();
  const auto shard = EdgeShard::Start(GetParam(), /*layer=*/nullptr, SmallRows());
  ASSERT_NE(shard, nullptr);
  ServingShard serving(shard->exchange(), SmallRows());
  const auto rank = MakeEdgeRank(GetParam(), layer.get(), SmallRows(), "rank", {shard->address()});
  ASSERT_TRUE(AwaitProblem(*rank, 0, "the shard nothing of the kind"));
  for (int i = 0; i < 20; ++i) {
    Work work(SmallRows(), {4, 1}, {0, 0});
    const Ticket ticket = rank->Dispatch(i, Lane::kDecode, work.plan, work.rows).value();
    EXPECT_TRUE(rank->Combine(ticket, Far(), absl::MakeSpan(work.results)).empty());
    work.ExpectResults(i);
  }
  EXPECT_EQ(rank->carrier(0), BelowName(GetParam()));
}

// Of two lanes, only one finds memory.
TEST_P(EdgeLayers, ConnectionsBeyondTheLimitStayOnTheChannelBelow) {
  EdgeOptions options = QuickEdges();
  options.max_edges = 1;
  EdgeCluster cluster(GetParam(), {1, 1, SmallRows(), SmallRows()}, options);
  ASSERT_TRUE(cluster.rank(0).AwaitConnected(0, Far()));
  ServingShard serving(cluster.shard(0), SmallRows());
  for (int i = 0; i < 20; ++i) {
    for (const Lane lane : {Lane::kDecode, Lane::kBulk}) {
      Work work(SmallRows(), {4, 1}, {0, 0});
      const Ticket ticket = cluster.rank(0).Dispatch(i, lane, work.plan, work.rows).value();
      EXPECT_TRUE(cluster.rank(0).Combine(ticket, Far(), absl::MakeSpan(work.results)).empty());
      work.ExpectResults(i);
    }
  }
}

// The second frame is small and goes whole; it is at the shard long before the rows of the first.
TEST_P(EdgeLayers, AWholeFrameDoesNotOvertakeTheRowsOfTheOneBefore) {
  EdgeOptions options = QuickEdges();
  options.min_row_bytes = 2 * SmallRows().row_bytes;
  options.operation_timeout = absl::Seconds(60);
  EdgeCluster cluster(GetParam(), {1, 1, SmallRows(), SmallRows()}, options);
  RankExchange& rank = cluster.rank(0);
  ASSERT_TRUE(cluster.AwaitUp());
  Misbehave("stalls");
  Work large(SmallRows(), {4, 1}, {0, 0}), small(SmallRows(), {1, 1}, {0, 0});
  const Ticket first = rank.Dispatch(1, Lane::kDecode, large.plan, large.rows).value();
  const Ticket second = rank.Dispatch(2, Lane::kDecode, small.plan, small.rows).value();
  EXPECT_FALSE(cluster.shard(0).Await(absl::Now() + absl::Milliseconds(50)));
  Misbehave("");
  for (const int layer : {1, 2}) {
    const InboundFrame frame = ReceiveOne(cluster.shard(0));
    EXPECT_EQ(frame.layer, layer);
    Answer(cluster.shard(0), SmallRows(), frame);
  }
  EXPECT_TRUE(rank.Combine(first, Far(), absl::MakeSpan(large.results)).empty());
  EXPECT_TRUE(rank.Combine(second, Far(), absl::MakeSpan(small.results)).empty());
}

TEST_P(EdgeLayers, LeaveNothingOpenBehind) {
  {
    EdgeCluster cluster(GetParam(), {2, 2, SmallRows(), SmallRows()}, QuickEdges());
    EXPECT_TRUE(cluster.AwaitUp());
    EXPECT_GE(nccl_on_host::NumCommunicators() + cuda_on_host::NumOpenMemories(), 8);
  }
  EXPECT_EQ(nccl_on_host::NumCommunicators(), 0);
  EXPECT_EQ(cuda_on_host::NumOpenMemories(), 0);
}

TEST_P(EdgeLayers, RefuseOptionsThatMakeNoSense) {
  const auto code = [](const EdgeOptions& options) {
    return MakeLayer(GetParam(), options).status().code();
  };
  EXPECT_EQ(code({.max_edges = 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.operation_timeout = absl::ZeroDuration()}), absl::StatusCode::kInvalidArgument);
  // 4 slots for each direction of an edge: more than any device has.
  EXPECT_EQ(code({.max_edges = 1 << 20}), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace orrery
