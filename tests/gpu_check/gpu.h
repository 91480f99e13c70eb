// The GPU of a test: device, stream, kernels.
#ifndef ORRERY_TESTS_GPU_CHECK_GPU_H_
#define ORRERY_TESTS_GPU_CHECK_GPU_H_

#include <cstring>
#include <memory>
#include <vector>

#include "base/status.h"
#include "device/cuda/cuda_device.h"
#include "kernels/cuda/make_cuda_kernels.h"

namespace orrery {

struct Gpu {
  std::unique_ptr<Device> device;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Kernels> kernels;

  static absl::StatusOr<Gpu> Open() {
    Gpu gpu;
    ASSIGN_OR_RETURN(gpu.device, MakeCudaDevice(0));
    gpu.stream = gpu.device->MakeStream();
    ASSIGN_OR_RETURN(gpu.kernels, MakeCudaKernels(gpu.stream.get()));
    return gpu;
  }

  absl::StatusOr<Buffer> Allocate(size_t num_bytes) const {
    return device->Allocate(num_bytes, MemoryKind::kDevice);
  }
  template <typename T>
  absl::StatusOr<Buffer> Upload(const std::vector<T>& values) const {
    ASSIGN_OR_RETURN(Buffer buffer, Allocate(values.size() * sizeof(T)));
    stream->CopyToDevice(buffer.data(), values.data(), buffer.num_bytes());
    RETURN_IF_ERROR(stream->Synchronize());
    return buffer;
  }
  absl::StatusOr<std::vector<std::byte>> Download(const Buffer& buffer, size_t num_bytes) const {
    std::vector<std::byte> bytes(num_bytes);
    stream->CopyToHost(bytes.data(), buffer.data(), num_bytes);
    RETURN_IF_ERROR(stream->Synchronize());
    return bytes;
  }
};

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_GPU_H_
