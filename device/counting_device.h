// A device that has no memory and counts how much is asked of it: run with it, the code that allocates
// says what it will need.
//
//   CountingDevice device;
//   RETURN_IF_ERROR(KvCache::Create(model, num_blocks, &device).status());
//   device.num_bytes()                        // that Reserve of a real one must have
//
// Buffers have their size and no address; streams do nothing. Threads: one.
#ifndef ORRERY_DEVICE_COUNTING_DEVICE_H_
#define ORRERY_DEVICE_COUNTING_DEVICE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "device/device.h"

namespace orrery {

class CountingStream final : public Stream {
 public:
  void CopyToDevice(void* to, const void* from, size_t num_bytes) override {}
  void CopyToHost(void* to, const void* from, size_t num_bytes) override {}
  void CopyOnDevice(void* to, const void* from, size_t num_bytes) override {}
  std::unique_ptr<Event> Record() override { return std::make_unique<Event>(); }
  void Wait(const Event& event) override {}
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

class CountingDevice final : public Device {
 public:
  std::string name() const override { return "nothing"; }
  absl::StatusOr<Buffer> Allocate(size_t num_bytes, MemoryKind kind) override {
    (kind == MemoryKind::kDevice ? num_bytes_ : num_pinned_bytes_) += ReservedBytes(num_bytes);
    return Buffer(nullptr, num_bytes, [](void*) {});
  }
  absl::StatusOr<MemoryBytes> memory() const override { return MemoryBytes(); }
  std::unique_ptr<Stream> MakeStream() override { return std::make_unique<CountingStream>(); }

  // Of the device, and of the host.
  size_t num_bytes() const { return num_bytes_; }
  size_t num_pinned_bytes() const { return num_pinned_bytes_; }

 private:
  size_t num_bytes_ = 0;
  size_t num_pinned_bytes_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_DEVICE_COUNTING_DEVICE_H_
