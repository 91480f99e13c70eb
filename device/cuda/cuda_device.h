// An NVIDIA GPU as a device, on the CUDA runtime API.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(/*index=*/0));
//
// Only built with --config=cuda. It needs no nvcc: no kernel lives here.
//
// Threads: the device may be shared once Reserve is done; every call makes its GPU the current one of
// the calling thread. It outlives its streams.
// Errors: UNAVAILABLE when there is no driver or no GPU of that index, with how many there are;
// FAILED_PRECONDITION for a driver that is older than the runtime, with both versions. An error of
// queued work, once reported by Synchronize(), usually means that the GPU's context is lost: end
// the process.
#ifndef ORRERY_DEVICE_CUDA_CUDA_DEVICE_H_
#define ORRERY_DEVICE_CUDA_CUDA_DEVICE_H_

#include <memory>

#include "base/status.h"
#include "device/device.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int index);

}  // namespace orrery

#endif  // ORRERY_DEVICE_CUDA_CUDA_DEVICE_H_
