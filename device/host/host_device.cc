#include "device/host/host_device.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_memory.h"

namespace orrery {
namespace {

size_t PhysicalMemoryBytes() {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Nothing is ever outstanding, so an event is always in the past.
class HostEvent : public Event {};

class HostStream : public Stream {
 public:
  void CopyToDevice(void* to, const void* from, size_t num_bytes) override {
    if (num_bytes > 0) std::memcpy(to, from, num_bytes);
  }
  void CopyToHost(void* to, const void* from, size_t num_bytes) override {
    if (num_bytes > 0) std::memcpy(to, from, num_bytes);
  }
  void CopyOnDevice(void* to, const void* from, size_t num_bytes) override {
    if (num_bytes > 0) std::memcpy(to, from, num_bytes);
  }
  std::unique_ptr<Event> Record() override { return std::make_unique<HostEvent>(); }
  void Wait(const Event& event) override {}
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

class HostDevice : public Device {
 public:
  std::string name() const override { return "host"; }

  absl::StatusOr<Buffer> Allocate(size_t num_bytes, MemoryKind kind) override {
    const size_t limit = PhysicalMemoryBytes();
    if (num_bytes > limit) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot allocate ", num_bytes, " bytes: the machine has ", limit));
    }
    // An empty buffer still gets an address.
    AlignedArray<std::byte> memory = TryAllocateAligned<std::byte>(std::max<size_t>(num_bytes, 1));
    if (memory == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot allocate ", num_bytes, " bytes: the system refused"));
    }
    std::memset(memory.get(), 0, num_bytes);
    return Buffer(memory.release(), num_bytes, AlignedDelete());
  }

  absl::StatusOr<MemoryBytes> memory() const override {
    return MemoryBytes{.free = static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) *
                               static_cast<size_t>(sysconf(_SC_PAGESIZE)),
                       .total = PhysicalMemoryBytes()};
  }

  absl::StatusOr<Buffer> Share(const void* data, size_t num_bytes,
                               std::shared_ptr<const void> owner) override {
    return Buffer(const_cast<void*>(data), num_bytes, [owner = std::move(owner)](void*) {});
  }

  std::unique_ptr<Stream> MakeStream() override { return std::make_unique<HostStream>(); }
};

}  // namespace

std::unique_ptr<Device> MakeHostDevice() { return std::make_unique<HostDevice>(); }

}  // namespace orrery
