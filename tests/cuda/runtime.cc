// The device, its memory, and errors.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/cuda/device_memory.h"

namespace {

// What a thread was told last.
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

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
    case cudaErrorDeviceUninitialized:
      return "cudaErrorDeviceUninitialized";
    case cudaErrorMapBufferObjectFailed:
      return "cudaErrorMapBufferObjectFailed";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
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
  // As much as every GPU from sm_80 on has: 99 KiB on sm_86.
  properties->sharedMemPerBlockOptin = 99 << 10;
  properties->major = 8;
  properties->minor = 0;
  properties->multiProcessorCount = 1;
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
