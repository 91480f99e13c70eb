// What is free on a device, as room for what somebody needs of it. Header only.
//
//   RETURN_IF_ERROR(CheckFits("this rank", need, RoomOf(device->name(), *device->memory())));
#ifndef ORRERY_DEVICE_MEMORY_ROOM_H_
#define ORRERY_DEVICE_MEMORY_ROOM_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "base/memory_need.h"
#include "device/device.h"

namespace orrery {

inline MemoryRoom RoomOf(const std::string& device_name, const MemoryBytes& memory) {
  return {.bytes = memory.free,
          .text = absl::StrCat(MemoryText(memory.free), " of ", MemoryText(memory.total),
                               " are free on ", device_name)};
}

}  // namespace orrery

#endif  // ORRERY_DEVICE_MEMORY_ROOM_H_
