// Graphs of the stand-in: what is captured does not happen, what a capture forbids makes it void.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

namespace orrery {
namespace {

class Graphs : public testing::Test {
 protected:
  Graphs() { cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); }
  ~Graphs() override {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
    cudaStreamDestroy(stream_);
  }
  void Copy() { cudaMemcpyAsync(&to_, &from_, sizeof(int), cudaMemcpyDefault, stream_); }
  cudaError_t Capture(const std::function<void()>& work) {
    cudaError_t error = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) return error;
    work();
    cudaGraph_t graph = nullptr;
    error = cudaStreamEndCapture(stream_, &graph);
    if (error != cudaSuccess) return error;
    error = cudaGraphInstantiate(&exec_, graph, 0);
    cudaGraphDestroy(graph);
    return error;
  }

  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
  int from_ = 1, to_ = 0;
};

TEST_F(Graphs, DoNothingUntilTheyAreLaunched) {
  ASSERT_EQ(Capture([&] { Copy(); }), cudaSuccess);
  EXPECT_EQ(to_, 0);
  for (from_ = 2; from_ < 5; ++from_) {
    EXPECT_EQ(cudaGraphLaunch(exec_, stream_), cudaSuccess);
    EXPECT_EQ(to_, from_);
  }
}

TEST_F(Graphs, AreVoidWhenTheirThreadWaitsOrAllocates) {
  void* data = nullptr;
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  for (const std::function<cudaError_t()>& forbidden : std::vector<std::function<cudaError_t()>>{
           [&] { return cudaStreamSynchronize(stream_); },
           [&] { return cudaDeviceSynchronize(); },
           [&] { return cudaMalloc(&data, 1); },
           [&] { return cudaHostAlloc(&data, 1, cudaHostAllocDefault); },
           [&] { return cudaFree(nullptr); },
           [&] { return cudaMemset(&to_, 0, sizeof(to_)); },
           [&] { return cudaEventRecord(event, stream_); },
           [&] { return cudaEventQuery(event); },
       }) {
    const cudaError_t error =
        Capture([&] { EXPECT_EQ(forbidden(), cudaErrorStreamCaptureUnsupported); });
    EXPECT_EQ(error, cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(data, nullptr);
  }
  cudaEventDestroy(event);
  EXPECT_EQ(Capture([&] { Copy(); }), cudaSuccess);
}

TEST_F(Graphs, LeaveOtherThreadsAlone) {
  EXPECT_EQ(Capture([&] {
              std::thread([] {
                void* data = nullptr;
                EXPECT_EQ(cudaMalloc(&data, 1), cudaSuccess);
                EXPECT_EQ(cudaFree(data), cudaSuccess);
              }).join();
            }),
            cudaSuccess);
}

TEST_F(Graphs, AreOfOneStreamAtATime) {
  EXPECT_EQ(Capture([&] {
              EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                        cudaErrorIllegalState);
            }),
            cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorIllegalState);
}

}  // namespace
}  // namespace orrery
