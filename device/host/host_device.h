// The processor itself as a device: its memory is ordinary memory, and every call has finished when
// it returns.
//
//   std::unique_ptr<Device> device = MakeHostDevice();
//
// Threads: the device may be shared. Errors: Allocate answers RESOURCE_EXHAUSTED when the system
// refuses, and for more bytes than the machine has memory (Linux would promise them and kill the
// process at the first touch).
#ifndef ORRERY_DEVICE_HOST_HOST_DEVICE_H_
#define ORRERY_DEVICE_HOST_HOST_DEVICE_H_

#include <memory>

#include "device/device.h"

namespace orrery {

std::unique_ptr<Device> MakeHostDevice();

}  // namespace orrery

#endif  // ORRERY_DEVICE_HOST_HOST_DEVICE_H_
