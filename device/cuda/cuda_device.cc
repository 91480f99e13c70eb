#include "device/cuda/cuda_device.h"

#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "device/cuda/cuda_stream.h"

namespace orrery {
namespace {

class CudaDevice : public Device {
 public:
  CudaDevice(int index, std::string name) : index_(index), name_(std::move(name)) {}

  std::string name() const override { return name_; }

  absl::StatusOr<Buffer> Allocate(size_t num_bytes, MemoryKind kind) override {
    RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), "cudaSetDevice"));
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
    RETURN_IF_ERROR(CudaStatus(cudaMemset(data, 0, given), "cudaMemset"));
    RETURN_IF_ERROR(CudaStatus(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
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
  RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
  return std::make_unique<CudaDevice>(index, absl::StrCat("cuda:", index, " ", properties.name));
}

}  // namespace orrery
