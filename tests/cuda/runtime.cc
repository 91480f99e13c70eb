// The device, its memory, and errors.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/graphs.h"
#include "tests/cuda/machine.h"

using cuda_on_host::kRuntimeVersion;
using cuda_on_host::RefusedByCapture;
using cuda_on_host::TheMachine;

namespace {

// What a thread was told last.
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

cuda_on_host::Machine& cuda_on_host::TheMachine() {
  static Machine machine;
  return machine;
}

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
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorDeviceUninitialized:
      return "cudaErrorDeviceUninitialized";
    case cudaErrorMapBufferObjectFailed:
      return "cudaErrorMapBufferObjectFailed";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
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

cudaError_t cudaDriverGetVersion(int* version) {
  *version = TheMachine().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kRuntimeVersion;
  return cudaSuccess;
}
// Without any driver the runtime says that it is too old.
cudaError_t cudaGetDeviceCount(int* num_devices) {
  *num_devices = 0;
  if (TheMachine().driver_version < kRuntimeVersion) return Answer(cudaErrorInsufficientDriver);
  if (TheMachine().num_devices == 0) return Answer(cudaErrorNoDevice);
  *num_devices = TheMachine().num_devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  const bool is_there = index >= 0 && index < TheMachine().num_devices;
  return Answer(is_there ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= TheMachine().num_devices) return Answer(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "stand-in on the host");
  properties->totalGlobalMem = TheMachine().memory_bytes;
  properties->sharedMemPerBlockOptin = TheMachine().shared_bytes;
  properties->major = TheMachine().major;
  properties->minor = TheMachine().minor;
  properties->multiProcessorCount = 1;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  *attributes = {.ptxVersion = TheMachine().code_architecture};
  return Answer(attributes->ptxVersion > 0 ? cudaSuccess : cudaErrorNoKernelImageForDevice);
}

cudaError_t cudaMemGetInfo(size_t* num_free, size_t* num_all) {
  *num_all = TheMachine().memory_bytes;
  *num_free = *num_all - std::min(*num_all, orrery::DeviceMemory::The().num_allocated());
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t num_bytes) {
  *data = nullptr;
  if (RefusedByCapture()) return Answer(cudaErrorStreamCaptureUnsupported);
  size_t num_free, num_all;
  cudaMemGetInfo(&num_free, &num_all);
  if (num_bytes > 0 && num_bytes <= num_free) {
    *data = orrery::DeviceMemory::The().Allocate(num_bytes);
  }
  return Answer(*data == nullptr && num_bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFree(void* data) {
  if (RefusedByCapture()) return Answer(cudaErrorStreamCaptureUnsupported);
  const bool freed = data == nullptr || orrery::DeviceMemory::The().Free(data);
  return Answer(freed ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** data, size_t num_bytes, unsigned flags) {
  *data = nullptr;
  if (RefusedByCapture()) return Answer(cudaErrorStreamCaptureUnsupported);
  constexpr size_t kPage = 4096;
  if (num_bytes <= orrery::DeviceMemory::kNumBytes) {
    *data = std::aligned_alloc(kPage, std::max<size_t>(1, (num_bytes + kPage - 1) / kPage) * kPage);
  }
  return Answer(*data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFreeHost(void* data) {
  if (RefusedByCapture()) return Answer(cudaErrorStreamCaptureUnsupported);
  std::free(data);
  return cudaSuccess;
}
