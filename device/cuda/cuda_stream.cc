#include "device/cuda/cuda_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"

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

}  // namespace

absl::Status CudaStatus(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

CudaStream::CudaStream(int device_index) : device_index_(device_index) {
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

// The direction follows from the addresses (pinned memory included).
void CudaStream::Copy(void* to, const void* from, size_t num_bytes) {
  if (num_bytes == 0) return;
  MakeCurrent();
  Keep(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
}

}  // namespace orrery
