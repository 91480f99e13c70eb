// The memory of the stand-in's device: one range of addresses, closed to everybody but for the
// time of a kernel or a copy, so that host code which touches it dies of a segmentation fault.
//
//   std::byte* data = DeviceMemory::The().Allocate(num_bytes);    // null: none left
//   { const DeviceMemory::Opened opened; ... }                    // here it can be read and written
//
// Other processes can write into it, as through CUDA IPC:
//
//   handle = *DeviceMemory::The().Export(data);
//   std::byte* there = DeviceMemory::The().Import(handle);        // closed likewise
//
// Threads: safe; Opened excludes others of this process.
#ifndef ORRERY_TESTS_CUDA_DEVICE_MEMORY_H_
#define ORRERY_TESTS_CUDA_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "tests/cuda/shared_file.h"

namespace orrery {

class DeviceMemory {
 public:
  static DeviceMemory& The();

  static constexpr size_t kNumBytes = size_t{8} << 30;

  std::byte* Allocate(size_t num_bytes);
  bool Free(void* data);                                        // whether it was allocated
  int64_t num_allocations() const { return num_allocations_; }  // ever
  size_t num_allocated();                                       // bytes, now

  // Nothing if no allocation begins there.
  std::optional<SharedFile::Handle> Export(const void* data);
  // Of one that is imported already: the same address once more. Null: its process is gone.
  std::byte* Import(const SharedFile::Handle& handle);
  bool Release(void* imported);  // whether it was imported; the last time takes the address away
  bool IsImported(const void* data);

  class Opened {
   public:
    Opened();
    ~Opened();
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

   private:
    std::lock_guard<std::mutex> lock_;
  };

 private:
  struct Imported {
    SharedFile::Handle handle;
    SharedFile::Mapping mapping;
    int num_times = 0;
  };

  DeviceMemory() : file_(kNumBytes), begin_(file_.begin()) {}
  void Protect(int access) const;

  std::mutex mutex_;
  const SharedFile file_;
  std::byte* const begin_;
  size_t used_ = 0;                     // the highest end
  std::map<size_t, size_t> allocated_;  // offset: bytes
  std::map<std::byte*, Imported> imported_;
  int64_t num_allocations_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_CUDA_DEVICE_MEMORY_H_
