#include "device/cuda/cuda_device.h"

#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

absl::Status ToStatus(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

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

// Keeps the first error of its calls until Synchronize() reports it.
class CudaStream : public Stream {
 public:
  explicit CudaStream(int device_index) : device_index_(device_index) {
    Keep(cudaSetDevice(device_index_), "cudaSetDevice");
    // Not tied to the default stream, so that two streams never wait for each other by accident.
    Keep(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  ~CudaStream() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  void CopyToDevice(void* to, const void* from, size_t num_bytes) override {
    Copy(to, from, num_bytes);
  }
  void CopyToHost(void* to, const void* from, size_t num_bytes) override {
    Copy(to, from, num_bytes);
  }
  void CopyOnDevice(void* to, const void* from, size_t num_bytes) override {
    Copy(to, from, num_bytes);
  }

  std::unique_ptr<Event> Record() override {
    cudaEvent_t event = nullptr;
    Keep(cudaSetDevice(device_index_), "cudaSetDevice");
    Keep(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    if (event != nullptr) Keep(cudaEventRecord(event, stream_), "cudaEventRecord");
    return std::make_unique<CudaEvent>(event);
  }

  void Wait(const Event& event) override {
    const cudaEvent_t handle = static_cast<const CudaEvent&>(event).get();
    Keep(cudaSetDevice(device_index_), "cudaSetDevice");
    if (handle != nullptr) Keep(cudaStreamWaitEvent(stream_, handle, 0), "cudaStreamWaitEvent");
  }

  absl::Status Synchronize() override {
    Keep(cudaSetDevice(device_index_), "cudaSetDevice");
    Keep(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    return std::exchange(first_error_, absl::OkStatus());
  }

 private:
  // The direction follows from the addresses (pinned memory included).
  void Copy(void* to, const void* from, size_t num_bytes) {
    if (num_bytes == 0) return;
    Keep(cudaSetDevice(device_index_), "cudaSetDevice");
    Keep(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
  }
  void Keep(cudaError_t error, const char* call) {
    if (error != cudaSuccess && first_error_.ok()) first_error_ = ToStatus(error, call);
  }

  int device_index_;
  cudaStream_t stream_ = nullptr;
  absl::Status first_error_;
};

class CudaDevice : public Device {
 public:
  CudaDevice(int index, std::string name) : index_(index), name_(std::move(name)) {}

  std::string name() const override { return name_; }

  absl::StatusOr<Buffer> Allocate(size_t num_bytes, MemoryKind kind) override {
    RETURN_IF_ERROR(ToStatus(cudaSetDevice(index_), "cudaSetDevice"));
    const bool pinned = kind == MemoryKind::kPinnedHost;
    const size_t given = num_bytes == 0 ? 1 : num_bytes;  // cudaMalloc(0) gives no address
    void* data = nullptr;
    const cudaError_t error =
        pinned ? cudaHostAlloc(&data, given, cudaHostAllocDefault) : cudaMalloc(&data, given);
    if (error != cudaSuccess) {
      cudaGetLastError();  // an allocation that failed is not a lost context: forget it
      return absl::ResourceExhaustedError(absl::StrCat(name_, ": cannot allocate ", num_bytes,
                                                       pinned ? " pinned" : "",
                                                       " bytes: ", cudaGetErrorString(error)));
    }
    Buffer buffer(data, num_bytes, [pinned](void* memory) {
      if (pinned) {
        cudaFreeHost(memory);
      } else {
        cudaFree(memory);
      }
    });
    // Pinned memory has a device address as well, so one call clears both kinds. The streams made
    // here do not wait for the default stream: finish before the buffer is seen.
    RETURN_IF_ERROR(ToStatus(cudaMemset(data, 0, given), "cudaMemset"));
    RETURN_IF_ERROR(ToStatus(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
    return buffer;
  }

  std::unique_ptr<Stream> MakeStream() override { return std::make_unique<CudaStream>(index_); }

 private:
  int index_;
  std::string name_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int index) {
  int num_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&num_devices);
  if (error != cudaSuccess) {
    return absl::UnavailableError(absl::StrCat("no CUDA device: ", cudaGetErrorString(error)));
  }
  if (index < 0 || index >= num_devices) {
    return absl::UnavailableError(
        absl::StrCat("no CUDA device ", index, ": the machine has ", num_devices));
  }
  cudaDeviceProp properties;
  RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
  return std::make_unique<CudaDevice>(index, absl::StrCat("cuda:", index, " ", properties.name));
}

}  // namespace orrery
