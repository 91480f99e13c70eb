// The device, its memory, and errors.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/gpu.h"

namespace {

cuda_on_host::Gpu the_gpu = cuda_on_host::kSm80;

// What a thread was told last.
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

void cuda_on_host::Become(const Gpu& gpu) { the_gpu = gpu; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : cudaGetErrorName(error);
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetDeviceCount(int* num_devices) {
  *num_devices = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  return Answer(index == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index != 0) return Answer(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "stand-in on the host");
  properties->totalGlobalMem = orrery::DeviceMemory::kNumBytes;
  properties->sharedMemPerBlockOptin = the_gpu.shared_bytes;
  properties->major = the_gpu.major;
  properties->minor = the_gpu.minor;
  properties->multiProcessorCount = 1;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t num_bytes) {
  *data = num_bytes == 0 ? nullptr : orrery::DeviceMemory::The().Allocate(num_bytes);
  return Answer(*data == nullptr && num_bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFree(void* data) {
  const bool freed = data == nullptr || orrery::DeviceMemory::The().Free(data);
  return Answer(freed ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** data, size_t num_bytes, unsigned flags) {
  constexpr size_t kPage = 4096;
  const bool possible = num_bytes <= orrery::DeviceMemory::kNumBytes;
  *data = possible ? std::aligned_alloc(
                         kPage, std::max<size_t>(1, (num_bytes + kPage - 1) / kPage) * kPage)
                   : nullptr;
  return Answer(*data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFreeHost(void* data) {
  std::free(data);
  return cudaSuccess;
}
