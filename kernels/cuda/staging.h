// Small arrays on their way to the GPU: ids, descriptors of jobs.
//
//   const int32_t* ids = staging.Put(absl::MakeConstSpan(...));      // an address of the device
//   kernels queued from now on read ids, until some calls later the place is used again
//
// Pinned memory and its copy on the device, in two halves that take turns. A half is written again
// only after an event says that its copies are done; so the host waits only when it is half a
// buffer ahead of the GPU.
//
// Scratch is the other memory that kernels keep between calls: it grows to what was asked for, and
// never shrinks. Neither allocates in a call that has seen its sizes before.
//
// Threads: those of their Kernels. Errors: no memory ends the process, with the numbers.
#ifndef ORRERY_KERNELS_CUDA_STAGING_H_
#define ORRERY_KERNELS_CUDA_STAGING_H_

#include <cstddef>

#include "absl/types/span.h"
#include "device/cuda/cuda_stream.h"
#include "device/device.h"

namespace orrery {

// Of every Put.
inline constexpr size_t kStagingAlignment = 64;

class Staging {
 public:
  Staging(Device* device, CudaStream* stream);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Everything that one call puts must fit into a half: ask before the first Put, with
  // kStagingAlignment for each.
  void Reserve(size_t num_bytes);
  template <typename T>
  const T* Put(absl::Span<const T> values) {
    return static_cast<const T*>(PutBytes(values.data(), values.size() * sizeof(T)));
  }

 private:
  const void* PutBytes(const void* data, size_t num_bytes);
  void TurnTo(int half);

  Device* device_;
  CudaStream* stream_;
  size_t half_bytes_ = 0;
  Buffer pinned_;
  Buffer on_device_;
  cudaEvent_t copied_[2] = {};  // what was put into a half before it was left
  int half_ = 0;
  size_t used_ = 0;
};

class Scratch {
 public:
  explicit Scratch(Device* device) : device_(device) {}
  // Memory of the device; what was in it does not survive. (Freeing the old one waits for kernels
  // that use it.)
  std::byte* Get(size_t num_bytes);

 private:
  Device* device_;
  Buffer memory_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_STAGING_H_
