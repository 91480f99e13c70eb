#include "exchange/nccl/slots.h"

#include "absl/strings/str_cat.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<SlotPool>> SlotPool::Make(Device* device, int num_slots) {
  std::unique_ptr<SlotPool> pool(new SlotPool);
  const size_t num_bytes = static_cast<size_t>(num_slots) * kSlotBytes;
  ASSIGN_OR_RETURN(pool->host_, device->Allocate(num_bytes, MemoryKind::kPinnedHost));
  ASSIGN_OR_RETURN(pool->device_, device->Allocate(num_bytes, MemoryKind::kDevice));
  pool->num_slots_ = num_slots;
  for (int i = 0; i < num_slots; ++i) {
    pool->free_.push_back({.host = pool->host_.as<std::byte>() + i * kSlotBytes,
                           .device = pool->device_.as<std::byte>() + i * kSlotBytes});
  }
  return pool;
}

absl::StatusOr<Slots> SlotPool::Take(int num_slots) {
  std::lock_guard lock(mutex_);
  if (free_.size() < static_cast<size_t>(num_slots)) {
    return absl::ResourceExhaustedError(absl::StrCat("all but ", free_.size(), " of ", num_slots_,
                                                     " slots of NCCL's memory are in use, ",
                                                     num_slots, " are needed"));
  }
  std::vector<Slot> taken(free_.end() - num_slots, free_.end());
  free_.resize(free_.size() - static_cast<size_t>(num_slots));
  return Slots(this, std::move(taken));
}

void SlotPool::GiveBack(const std::vector<Slot>& slots) {
  std::lock_guard lock(mutex_);
  free_.insert(free_.end(), slots.begin(), slots.end());
}

}  // namespace orrery
