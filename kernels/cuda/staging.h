// Small arrays on their way to the GPU: ids, descriptors of jobs.
//
//   const int32_t* ids = staging.Put(absl::MakeConstSpan(...));      // an address of the device
//   kernels queued from now on read ids, until some calls later the place is used again
//
// Pinned memory and its copy on the device, in two halves that take turns. A half is written again
// only after an event says that its copies are done; so the host waits only when it is half a
// buffer ahead of the GPU.
//
// What captured work reads does not pass by, but stands in its graph for good.
//
// Scratch is the other memory that kernels keep between calls: it grows to what was asked for, and
// never shrinks. Neither allocates in a call that has seen its sizes before. Graphs remember where it
// is, so it does not grow any more once there is one.
//
// Threads: those of their Kernels. Errors: no memory ends the process, with the numbers.
#ifndef ORRERY_KERNELS_CUDA_STAGING_H_
#define ORRERY_KERNELS_CUDA_STAGING_H_

#include <cstddef>

#include "absl/types/span.h"
#include "base/status.h"
#include "device/cuda/cuda_stream.h"
#include "device/device.h"

namespace orrery {

// Of every Put.
inline constexpr size_t kStagingAlignment = 64;

class Staging {
 public:
  explicit Staging(CudaStream* stream);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Everything that one call puts must fit into a half: ask before the first Put, with
  // kStagingAlignment for each.
  void Reserve(size_t num_bytes);
  // The same, with what it takes of the device.
  static size_t DeviceBytes(size_t num_bytes);
  template <typename T>
  const T* Put(absl::Span<const T> values) {
    return static_cast<const T*>(PutBytes(values.data(), values.size() * sizeof(T)));
  }

 private:
  const void* PutBytes(const void* data, size_t num_bytes);
  void TurnTo(int half);

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
  explicit Scratch(CudaStream* stream) : stream_(stream) {}
  // Memory of the device; what was in it does not survive. (Taking a new one waits for kernels that use
  // the old.)
  std::byte* Get(size_t num_bytes);

 private:
  CudaStream* stream_;
  Buffer memory_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_STAGING_H_
