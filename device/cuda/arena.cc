#include "device/cuda/arena.h"

#include "base/check.h"

namespace orrery {

std::optional<size_t> Arena::Take(size_t num_bytes) {
  if (num_bytes > num_bytes_) return std::nullopt;  // and rounding cannot overflow
  num_bytes = ReservedBytes(num_bytes);
  const std::lock_guard lock(mutex_);
  size_t offset = 0;
  for (const auto& [begin, bytes] : taken_) {
    if (begin - offset >= num_bytes) break;
    offset = begin + bytes;
  }
  if (num_bytes > num_bytes_ || offset > num_bytes_ - num_bytes) return std::nullopt;
  taken_[offset] = num_bytes;
  num_taken_ += num_bytes;
  return offset;
}

void Arena::GiveBack(size_t offset) {
  const std::lock_guard lock(mutex_);
  const auto piece = taken_.find(offset);
  ORRERY_CHECK(piece != taken_.end()) << "nothing was taken at " << offset;
  num_taken_ -= piece->second;
  taken_.erase(piece);
}

size_t Arena::num_free() const {
  const std::lock_guard lock(mutex_);
  return num_bytes_ - num_taken_;
}

}  // namespace orrery
