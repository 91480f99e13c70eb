// What only CUDA IPC can get wrong: memory of the other process that cannot be opened, and copies into it that
// fail.

#include "tests/edge/loss_test.h"

namespace orrery {
namespace {

class CudaIpcLoss : public LossTest {
 protected:
  CudaIpcLoss() : LossTest(CarrierKind::kCudaIpc) {}
};

TEST_F(CudaIpcLoss, SharedMemoryCarriesTheRowsWhereTheRankCannotOpenTheWindow) {
  Misbehave("never_joins");
  Start();
  EXPECT_TRUE(AwaitProblem(*rank_, 0, "cudaIpcOpenMemHandle: cudaErrorMapBufferObjectFailed"));
  ExpectServedByBelow();
  Misbehave("");
  ExpectServedByCarrier();
}

TEST_F(CudaIpcLoss, ACopyThatFailsAtTheRankBreaksTheEdgeUntilItWorksAgain) {
  Start();
  ExpectServedByCarrier();
  Misbehave("fails");
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  ExpectServedByBelow();
  Misbehave("");
  ExpectServedByCarrier();
}

TEST_F(CudaIpcLoss, ACopyThatFailsAtTheShardBreaksTheEdgeUntilItWorksAgain) {
  Start();
  ExpectServedByCarrier();
  shard_->Misbehave("fails");
  Work work = FourRows();
  ExpectLost(Dispatch(work), work);
  ExpectServedByBelow();
  shard_->Misbehave("");
  ExpectServedByCarrier();
}

}  // namespace
}  // namespace orrery
