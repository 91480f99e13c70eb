#include "tests/cuda/ipc.h"

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstring>
#include <mutex>

#include "tests/cuda/device_memory.h"

namespace cuda_on_host {
namespace {

std::mutex mutex;
IpcFaults faults;  // guarded by mutex
std::atomic<bool> may_open_own = false;
std::atomic<int> num_open = 0;

}  // namespace

void SetIpcFaults(const IpcFaults& new_faults) {
  const std::lock_guard lock(mutex);
  faults = new_faults;
}
IpcFaults CurrentIpcFaults() {
  const std::lock_guard lock(mutex);
  return faults;
}
void LetProcessesOpenTheirOwn() { may_open_own = true; }
int NumOpenMemories() { return num_open; }

}  // namespace cuda_on_host

using orrery::DeviceMemory;
using orrery::SharedFile;

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* data) {
  const std::optional<SharedFile::Handle> exported = DeviceMemory::The().Export(data);
  if (!exported.has_value()) return cudaErrorInvalidValue;
  *handle = {};
  std::memcpy(handle->reserved, &*exported, sizeof(*exported));
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** data, cudaIpcMemHandle_t handle, unsigned flags) {
  SharedFile::Handle exported;
  std::memcpy(&exported, handle.reserved, sizeof(exported));
  if (flags != cudaIpcMemLazyEnablePeerAccess) return cudaErrorInvalidValue;
  if (SharedFile::IsOwn(exported) && !cuda_on_host::may_open_own) {
    return cudaErrorDeviceUninitialized;
  }
  if (cuda_on_host::CurrentIpcFaults().cannot_open) return cudaErrorMapBufferObjectFailed;
  *data = DeviceMemory::The().Import(exported);
  if (*data == nullptr) return cudaErrorMapBufferObjectFailed;
  ++cuda_on_host::num_open;
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* data) {
  if (!DeviceMemory::The().Release(data)) return cudaErrorInvalidValue;
  --cuda_on_host::num_open;
  return cudaSuccess;
}
