// Streams of the stand-in: order within one, independence between two.

#include "tests/cuda/streams.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <future>
#include <vector>

namespace orrery {
namespace {

class Streams : public testing::Test {
 protected:
  Streams() {
    for (cudaStream_t& stream : streams_) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
  }
  ~Streams() override {
    for (cudaStream_t stream : streams_) {
      cudaStreamSynchronize(stream);
      cudaStreamDestroy(stream);
    }
    cudaEventDestroy(event_);
  }
  void Copy(cudaStream_t stream) {
    cudaMemcpyAsync(&to_, &from_, sizeof(int), cudaMemcpyDefault, stream);
  }

  cudaStream_t streams_[2] = {};
  cudaEvent_t event_ = nullptr;
  int from_ = 1, to_ = 0;
};

TEST_F(Streams, RunAtOnceWhileNothingIsBeforeIt) {
  Copy(streams_[0]);
  EXPECT_EQ(to_, 1);
  EXPECT_EQ(cudaStreamQuery(streams_[0]), cudaSuccess);
}

TEST_F(Streams, KeepTheirOrderBehindWhatTakesLong) {
  std::promise<void> gate;
  cuda_on_host::RunOnStream(streams_[0], [&] { gate.get_future().wait(); });
  Copy(streams_[0]);
  cudaEventRecord(event_, streams_[0]);
  EXPECT_EQ(to_, 0);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(streams_[0]), cudaErrorNotReady);
  gate.set_value();
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(to_, 1);
}

TEST_F(Streams, AreIndependentUnlessAnEventTiesThem) {
  std::promise<void> gate;
  cuda_on_host::RunOnStream(streams_[0], [&] { gate.get_future().wait(); });
  cudaEventRecord(event_, streams_[0]);
  EXPECT_EQ(cudaStreamQuery(streams_[1]), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(streams_[1], event_, 0), cudaSuccess);
  Copy(streams_[1]);
  EXPECT_EQ(to_, 0);
  gate.set_value();
  cudaStreamSynchronize(streams_[1]);
  EXPECT_EQ(to_, 1);
}

TEST_F(Streams, DeviceSynchronizeWaitsForAll) {
  std::promise<void> gate;
  cuda_on_host::RunOnStream(streams_[0], [&] { gate.get_future().wait(); });
  Copy(streams_[0]);
  gate.set_value();
  cudaDeviceSynchronize();
  EXPECT_EQ(to_, 1);
}

TEST_F(Streams, AnEventThatWasNeverRecordedIsAMistake) {
  EXPECT_EQ(cudaStreamWaitEvent(streams_[0], event_, 0), cudaErrorInvalidResourceHandle);
}

}  // namespace
}  // namespace orrery
