// The memory of the stand-in's device: one range of addresses, closed to everybody but for the
// time of a kernel or a copy, so that host code which touches it dies of a segmentation fault.
//
//   std::byte* data = DeviceMemory::The().Allocate(num_bytes);    // null: none left
//   { const DeviceMemory::Opened opened; ... }                    // here it can be read and written
//
// Threads: safe; Opened excludes others.
#ifndef ORRERY_TESTS_CUDA_DEVICE_MEMORY_H_
#define ORRERY_TESTS_CUDA_DEVICE_MEMORY_H_

#include <cstddef>
#include <map>
#include <mutex>

namespace orrery {

class DeviceMemory {
 public:
  static DeviceMemory& The();

  static constexpr size_t kNumBytes = size_t{8} << 30;

  std::byte* Allocate(size_t num_bytes);
  bool Free(void* data);                                        // whether it was allocated
  int64_t num_allocations() const { return num_allocations_; }  // ever
  size_t num_allocated();                                       // bytes, now

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
  DeviceMemory();

  std::mutex mutex_;
  std::byte* begin_;
  size_t used_ = 0;                     // the highest end
  std::map<size_t, size_t> allocated_;  // offset: bytes
  int64_t num_allocations_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_CUDA_DEVICE_MEMORY_H_
