#include "device/host/host_device.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

constexpr size_t kAlignment = 64;

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
    // aligned_alloc wants a multiple of the alignment; an empty buffer still gets an address.
    const size_t rounded = num_bytes / kAlignment * kAlignment + kAlignment;
    void* data = std::aligned_alloc(kAlignment, rounded);
    if (data == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot allocate ", num_bytes, " bytes: the system refused"));
    }
    std::memset(data, 0, rounded);
    return Buffer(data, num_bytes, [](void* memory) { std::free(memory); });
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
