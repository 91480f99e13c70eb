#include "device/cuda/cuda_stream.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {
namespace {

class CudaEvent : public Event {
 public:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  ~CudaEvent() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_;  // null when it could not be made; the stream has the error
};

// As staging of kernels has it.
constexpr size_t kGraphBorder = 64;

}  // namespace

absl::Status CudaStatus(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

CudaGraph::~CudaGraph() {
  if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
}

const void* CudaGraph::Put(const void* data, size_t num_bytes) {
  if (num_bytes == 0) return nullptr;
  const size_t offset = constants_.size();
  const size_t rounded = (num_bytes + kGraphBorder - 1) / kGraphBorder * kGraphBorder;
  if (rounded > room_.size() - offset) {
    is_full_ = true;  // the capture will be thrown away
    return room_.data();
  }
  constants_.resize(offset + rounded);
  std::memcpy(constants_.data() + offset, data, num_bytes);
  return room_.data() + offset;
}

CudaStream::CudaStream(Device* device, int device_index)
    : device_(device), device_index_(device_index) {
  MakeCurrent();
  // Not tied to the default stream, so that two streams never wait for each other by accident.
  Keep(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

CudaStream::~CudaStream() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void CudaStream::CopyToDevice(void* to, const void* from, size_t num_bytes) {
  Copy(to, from, num_bytes);
}
void CudaStream::CopyToHost(void* to, const void* from, size_t num_bytes) {
  Copy(to, from, num_bytes);
}
void CudaStream::CopyOnDevice(void* to, const void* from, size_t num_bytes) {
  Copy(to, from, num_bytes);
}

std::unique_ptr<Event> CudaStream::Record() {
  cudaEvent_t event = nullptr;
  MakeCurrent();
  Keep(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  if (event != nullptr) Keep(cudaEventRecord(event, stream_), "cudaEventRecord");
  return std::make_unique<CudaEvent>(event);
}

void CudaStream::Wait(const Event& event) {
  const cudaEvent_t handle = static_cast<const CudaEvent&>(event).get();
  MakeCurrent();
  if (handle != nullptr) Keep(cudaStreamWaitEvent(stream_, handle, 0), "cudaStreamWaitEvent");
}

absl::Status CudaStream::Synchronize() {
  MakeCurrent();
  Keep(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  return std::exchange(first_error_, absl::OkStatus());
}

absl::StatusOr<std::unique_ptr<Graph>> CudaStream::Capture(const std::function<void()>& work) {
  ORRERY_CHECK(capturing_ == nullptr) << "a capture within a capture";
  RETURN_IF_ERROR(first_error_);
  if (graph_memory_.data() == nullptr) {
    ASSIGN_OR_RETURN(graph_memory_, device_->Allocate(kGraphBytes, MemoryKind::kDevice));
  }
  auto graph = std::make_unique<CudaGraph>(
      absl::MakeSpan(graph_memory_.as<std::byte>() + graph_bytes_, kGraphBytes - graph_bytes_));
  MakeCurrent();
  // Other threads go on as they like; this one does nothing meanwhile that would not be captured.
  RETURN_IF_ERROR(CudaStatus(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                             "cudaStreamBeginCapture"));
  capturing_ = graph.get();
  work();
  capturing_ = nullptr;
  cudaGraph_t captured = nullptr;
  const absl::Status ended =
      CudaStatus(cudaStreamEndCapture(stream_, &captured), "cudaStreamEndCapture");
  absl::Status status = std::exchange(first_error_, absl::OkStatus());
  if (status.ok()) status = ended;
  if (status.ok()) status = Finish(captured, *graph);
  if (captured != nullptr) cudaGraphDestroy(captured);
  cudaGetLastError();  // of a capture that failed nothing is left but its status
  RETURN_IF_ERROR(status);
  return graph;
}

absl::Status CudaStream::Finish(cudaGraph_t captured, CudaGraph& graph) {
  if (graph.is_full_) {
    return absl::ResourceExhaustedError(absl::StrCat(device_->name(),
                                                     ": no room for another graph: others have ",
                                                     graph_bytes_, " of ", kGraphBytes, " bytes"));
  }
  RETURN_IF_ERROR(
      CudaStatus(cudaGraphInstantiate(&graph.exec_, captured, 0), "cudaGraphInstantiate"));
  CopyToDevice(graph.room_.data(), graph.constants_.data(), graph.constants_.size());
  graph_bytes_ += graph.constants_.size();
  return absl::OkStatus();
}

void CudaStream::Replay(const Graph& graph) {
  MakeCurrent();
  Keep(cudaGraphLaunch(static_cast<const CudaGraph&>(graph).exec_, stream_), "cudaGraphLaunch");
}

// The direction follows from the addresses (pinned memory included).
void CudaStream::Copy(void* to, const void* from, size_t num_bytes) {
  if (num_bytes == 0) return;
  MakeCurrent();
  Keep(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
}

}  // namespace orrery
