// Memory that rows pass through on their way to a carrier and from it: slots of one frame's size, pinned on
// the host and, if asked for, on the device. All of it is allocated at start, because CUDA allocates only
// while nothing runs on the device, and a peer that hangs would make everybody wait.
//
//   ASSIGN_OR_RETURN(auto pool, SlotPool::Make(device.get(), {.num_slots = 256}));
//   ASSIGN_OR_RETURN(Slots slots, SlotPool::Take(pool, 4));     // given back when it goes
//
// What was given back longest ago is taken first.
//
// Errors: RESOURCE_EXHAUSTED, with how many there are.
// Threads: safe.
#ifndef ORRERY_EXCHANGE_EDGE_SLOTS_H_
#define ORRERY_EXCHANGE_EDGE_SLOTS_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/status.h"
#include "device/device.h"
#include "exchange/edge/mover.h"

namespace orrery {

struct Slot {
  int index = 0;                // in its pool
  std::byte* host = nullptr;    // [kSlotBytes]
  std::byte* device = nullptr;  // [kSlotBytes]; null if the pool has none
};

struct SlotPoolOptions {
  int num_slots = 0;
  bool on_device = true;
};

class SlotPool {
 public:
  // Keeps the pool alive.
  class Slots {
   public:
    Slots(std::shared_ptr<SlotPool> pool, std::vector<Slot> slots)
        : pool_(std::move(pool)), slots_(std::move(slots)) {}
    Slots(Slots&& other) = default;
    Slots& operator=(Slots&&) = delete;
    ~Slots() {
      if (pool_ != nullptr) pool_->GiveBack(slots_);  // null once moved from
    }
    const Slot& operator[](size_t i) const { return slots_[i]; }
    int size() const { return static_cast<int>(slots_.size()); }

   private:
    std::shared_ptr<SlotPool> pool_;
    std::vector<Slot> slots_;
  };

  static absl::StatusOr<std::shared_ptr<SlotPool>> Make(Device* device,
                                                        const SlotPoolOptions& options);
  static absl::StatusOr<Slots> Take(const std::shared_ptr<SlotPool>& pool, int num_slots);
  // Where the slots of the device lie, one behind the other.
  std::byte* device_begin() const { return device_.as<std::byte>(); }

 private:
  SlotPool() = default;
  void GiveBack(const std::vector<Slot>& slots);

  Buffer host_;
  Buffer device_;
  int num_slots_ = 0;
  std::mutex mutex_;
  std::deque<Slot> free_;  // guarded by mutex_
};

using Slots = SlotPool::Slots;

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_SLOTS_H_
