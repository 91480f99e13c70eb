// Who has which part of a range of bytes: offsets only, whatever the bytes are.
//
//   Arena arena(num_bytes);
//   std::optional<size_t> offset = arena.Take(1000);        // on a border of kAlignment
//   arena.GiveBack(*offset);
//
// The first gap that is large enough; neighbours that are given back become one gap. Made for what is
// taken once at start and then hardly ever.
//
// Threads: safe.
#ifndef ORRERY_DEVICE_CUDA_ARENA_H_
#define ORRERY_DEVICE_CUDA_ARENA_H_

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>

#include "device/device.h"

namespace orrery {

class Arena {
 public:
  static constexpr size_t kAlignment = ReservedBytes(1);

  explicit Arena(size_t num_bytes) : num_bytes_(num_bytes) {}

  // None when no gap is large enough.
  std::optional<size_t> Take(size_t num_bytes);
  void GiveBack(size_t offset);

  size_t num_bytes() const { return num_bytes_; }
  size_t num_free() const;

 private:
  const size_t num_bytes_;
  mutable std::mutex mutex_;
  std::map<size_t, size_t> taken_;  // offset: bytes
  size_t num_taken_ = 0;            // bytes
};

}  // namespace orrery

#endif  // ORRERY_DEVICE_CUDA_ARENA_H_
