// What only NCCL can get wrong: versions, errors that come by themselves, and aborts that hang.

#include "exchange/edge/undertaker.h"
#include "tests/edge/loss_test.h"
#include "tests/nccl/stand_in.h"

namespace orrery {
namespace {

class NcclLoss : public LossTest {
 protected:
  NcclLoss() : LossTest(CarrierKind::kNccl) {}
};

TEST_F(NcclLoss, GrpcCarriesTheRowsBetweenTwoVersionsAndBothAreNamed) {
  Start("version=22703");
  EXPECT_TRUE(AwaitProblem(*rank_, 0, "this rank has nccl 2.28.9, the shard nccl 2.27.3"));
  ExpectServedByBelow();
  StartShard();
  ExpectServedByCarrier();
}

TEST_F(NcclLoss, AnAsynchronousErrorAtTheShardBreaksTheEdgeUntilItIsGone) {
  Start("hold");
  ASSERT_TRUE(AwaitCarrier(*rank_, 0, "nccl"));
  Work work = FourRows();
  const Ticket ticket = Dispatch(work);
  ASSERT_NE(shard_->AwaitLine("received"), "");
  shard_->Misbehave("fails");
  ExpectLost(ticket, work);
  ExpectServedByBelow();
  shard_->Misbehave("");
  ExpectServedByCarrier();
}

TEST_F(NcclLoss, AnAsynchronousErrorAtTheRankBreaksTheEdgeUntilItIsGone) {
  Start("hold");
  ASSERT_TRUE(AwaitCarrier(*rank_, 0, "nccl"));
  Work work = FourRows();
  const Ticket ticket = Dispatch(work);
  ASSERT_NE(shard_->AwaitLine("received"), "");
  Misbehave("fails");
  ExpectLost(ticket, work);
  shard_->Misbehave("");
  ExpectServedByBelow();
  Misbehave("");
  ExpectServedByCarrier();
}

// Each lost edge has two communicators to abort, and there are more of them than threads for it.
TEST_F(NcclLoss, SoManyAbortsHangAndNoMore) {
  EdgeOptions options = QuickEdges();
  options.max_edges = 4;
  Start("", options);
  ExpectServedByCarrier();
  Misbehave("stalls abort_hangs");
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  ASSERT_TRUE(AwaitProblem(*rank_, 0, "slots for rows are in use"));
  EXPECT_EQ(nccl_on_host::NumHangingAborts(), Undertaker::kMaxThreads);
  ExpectServedByBelow();
  Misbehave("");
  ExpectServedByCarrier();
}

}  // namespace
}  // namespace orrery
