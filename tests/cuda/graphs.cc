#include "tests/cuda/graphs.h"

#include <memory>
#include <utility>
#include <vector>

#include "tests/cuda/streams.h"

namespace {

using Work = std::function<void()>;

struct Capture {
  cudaStream_t stream = nullptr;  // null: none
  std::vector<Work> work;
  bool is_void = false;
};
thread_local Capture capture;

}  // namespace

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<Work>> work;  // which runs may outlive
};

namespace cuda_on_host {

bool Captures(cudaStream_t stream, std::function<void()>& work) {
  if (stream == nullptr || stream != capture.stream) return false;
  capture.work.push_back(std::move(work));
  return true;
}

bool RefusedByCapture() {
  if (capture.stream == nullptr) return false;
  capture.is_void = true;
  return true;
}

}  // namespace cuda_on_host

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (stream == nullptr || mode != cudaStreamCaptureModeThreadLocal) return cudaErrorInvalidValue;
  if (capture.stream != nullptr) return cudaErrorIllegalState;
  capture.stream = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || stream != capture.stream) return cudaErrorIllegalState;
  Capture ended = std::exchange(capture, {});
  if (ended.is_void) return cudaErrorStreamCaptureInvalidated;
  *graph = new CUgraph_st{std::move(ended.work)};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long flags) {
  *exec = new CUgraphExec_st{std::make_shared<std::vector<Work>>(graph->work)};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (cuda_on_host::RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
  cuda_on_host::RunInStream(stream, [work = exec->work] {
    for (const Work& one : *work) one();
  });
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
