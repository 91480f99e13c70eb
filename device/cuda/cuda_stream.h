// A stream of a GPU as those see it who queue work of their own: kernels, transports.
//
//   auto& stream = dynamic_cast<CudaStream&>(*device->MakeStream());
//   stream.MakeCurrent();
//   stream.Keep(cudaLaunchKernelEx(...on stream.handle()...), "RmsNorm");
//
// Everybody else says Stream. Errors: the first that was kept is what Synchronize() reports.
#ifndef ORRERY_DEVICE_CUDA_CUDA_STREAM_H_
#define ORRERY_DEVICE_CUDA_CUDA_STREAM_H_

#include <cuda_runtime_api.h>

#include <memory>

#include "base/status.h"
#include "device/device.h"

namespace orrery {

// "cudaMemset: cudaErrorInvalidValue: invalid argument".
absl::Status CudaStatus(cudaError_t error, const char* call);

class CudaStream : public Stream {
 public:
  explicit CudaStream(int device_index);
  ~CudaStream() override;

  void CopyToDevice(void* to, const void* from, size_t num_bytes) override;
  void CopyToHost(void* to, const void* from, size_t num_bytes) override;
  void CopyOnDevice(void* to, const void* from, size_t num_bytes) override;
  std::unique_ptr<Event> Record() override;
  void Wait(const Event& event) override;
  absl::Status Synchronize() override;

  int device_index() const { return device_index_; }
  cudaStream_t handle() const { return stream_; }
  // Calls of the runtime that follow on this thread concern the stream's GPU.
  void MakeCurrent() { Keep(cudaSetDevice(device_index_), "cudaSetDevice"); }
  void Keep(cudaError_t error, const char* call) {
    if (error != cudaSuccess && first_error_.ok()) first_error_ = CudaStatus(error, call);
  }

 private:
  void Copy(void* to, const void* from, size_t num_bytes);

  int device_index_;
  cudaStream_t stream_ = nullptr;
  absl::Status first_error_;
};

}  // namespace orrery

#endif  // ORRERY_DEVICE_CUDA_CUDA_STREAM_H_
