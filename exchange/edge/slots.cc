#include "exchange/edge/slots.h"

#include "absl/strings/str_cat.h"

namespace orrery {

absl::StatusOr<std::shared_ptr<SlotPool>> SlotPool::Make(Device* device,
                                                         const SlotPoolOptions& options) {
  std::shared_ptr<SlotPool> pool(new SlotPool);
  const size_t num_bytes = static_cast<size_t>(options.num_slots) * kSlotBytes;
  ASSIGN_OR_RETURN(pool->host_, device->Allocate(num_bytes, MemoryKind::kPinnedHost));
  if (options.on_device) {
    ASSIGN_OR_RETURN(pool->device_, device->Allocate(num_bytes, MemoryKind::kDevice));
  }
  pool->num_slots_ = options.num_slots;
  for (int i = 0; i < options.num_slots; ++i) {
    const size_t begin = static_cast<size_t>(i) * kSlotBytes;
    pool->free_.push_back({.index = i,
                           .host = pool->host_.as<std::byte>() + begin,
                           .device = options.on_device ? pool->device_begin() + begin : nullptr});
  }
  return pool;
}

absl::StatusOr<Slots> SlotPool::Take(const std::shared_ptr<SlotPool>& pool, int num_slots) {
  std::lock_guard lock(pool->mutex_);
  if (pool->free_.size() < static_cast<size_t>(num_slots)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all but ", pool->free_.size(), " of the ", pool->num_slots_,
                     " slots for rows are in use, ", num_slots, " are needed"));
  }
  const auto end = pool->free_.begin() + num_slots;
  std::vector<Slot> taken(pool->free_.begin(), end);
  pool->free_.erase(pool->free_.begin(), end);
  return Slots(pool, std::move(taken));
}

void SlotPool::GiveBack(const std::vector<Slot>& slots) {
  std::lock_guard lock(mutex_);
  free_.insert(free_.end(), slots.begin(), slots.end());
}

}  // namespace orrery
