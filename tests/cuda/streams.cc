// Streams and events: everything has happened when its call returns, so an event is always in the past.

#include <cuda_runtime.h>

#include <cstring>
#include <map>
#include <mutex>

#include "tests/cuda/device_memory.h"

struct CUstream_st {};
struct CUevent_st {
  bool recorded = false;
};

namespace {

using orrery::DeviceMemory;

// As of every GPU so far; more only after cudaFuncSetAttribute, up to what cudaDeviceProp says.
constexpr size_t kSharedWithoutAsking = 48 << 10;

std::mutex mutex;
std::map<const void*, size_t>& AllowedShared() {
  static auto& allowed = *new std::map<const void*, size_t>;
  return allowed;
}

}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return cudaSuccess; }

cudaError_t cudaMemset(void* data, int value, size_t num_bytes) {
  const DeviceMemory::Opened opened;
  std::memset(data, value, num_bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t num_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const DeviceMemory::Opened opened;
  std::memmove(to, from, num_bytes);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->recorded = true;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return event->recorded ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

namespace cuda_on_host {

cudaError_t AllowSharedMemory(const void* kernel, int num_bytes) {
  cudaDeviceProp properties;
  cudaGetDeviceProperties(&properties, 0);
  if (num_bytes < 0 || static_cast<size_t>(num_bytes) > properties.sharedMemPerBlockOptin) {
    return cudaErrorInvalidValue;
  }
  const std::lock_guard lock(mutex);
  AllowedShared()[kernel] = num_bytes;
  return cudaSuccess;
}

// The limits of every GPU so far.
cudaError_t LaunchOnStream(const cudaLaunchConfig_t& config, const void* kernel,
                           const std::function<void()>& body) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  const uint64_t num_threads = uint64_t{block.x} * block.y * block.z;
  size_t allowed_shared = kSharedWithoutAsking;
  {
    const std::lock_guard lock(mutex);
    if (const auto it = AllowedShared().find(kernel); it != AllowedShared().end()) {
      allowed_shared = std::max(allowed_shared, it->second);
    }
  }
  if (num_threads == 0 || num_threads > 1024 || grid.x == 0 || grid.x > 0x7fffffffu ||
      grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535 ||
      config.dynamicSmemBytes > allowed_shared) {
    return cudaErrorInvalidConfiguration;
  }
  const DeviceMemory::Opened opened;
  RunGrid(grid, block, config.dynamicSmemBytes, body);
  return cudaSuccess;
}

}  // namespace cuda_on_host
