// Memory that rows pass through on their way to NCCL and from it: slots of one frame's size, on the
// device and pinned on the host. All of it is allocated at start, because CUDA allocates only while
// nothing runs on the device, and a peer that hangs would make everybody wait.
//
//   ASSIGN_OR_RETURN(auto pool, SlotPool::Make(device.get(), 256));
//   ASSIGN_OR_RETURN(Slots slots, pool->Take(4));     // given back when it goes
//
// Errors: RESOURCE_EXHAUSTED, with how many there are.
// Threads: safe. The pool outlives its slots, and the device the pool.
#ifndef ORRERY_EXCHANGE_NCCL_SLOTS_H_
#define ORRERY_EXCHANGE_NCCL_SLOTS_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/status.h"
#include "device/device.h"
#include "exchange/exchange.h"

namespace orrery {

inline constexpr size_t kSlotBytes = kMaxFrameBytes;
inline constexpr int kSlotsPerEdge = 8;  // for four frames in each direction, as many as tickets

struct Slot {
  std::byte* host = nullptr;    // [kSlotBytes]
  std::byte* device = nullptr;  // [kSlotBytes]
};

class SlotPool {
 public:
  class Slots {
   public:
    Slots(SlotPool* pool, std::vector<Slot> slots) : pool_(pool), slots_(std::move(slots)) {}
    Slots(Slots&& other) = default;
    Slots& operator=(Slots&&) = delete;
    ~Slots() {
      if (!slots_.empty()) pool_->GiveBack(slots_);  // none once moved from
    }
    const Slot& operator[](size_t i) const { return slots_[i]; }
    size_t size() const { return slots_.size(); }

   private:
    SlotPool* const pool_;
    std::vector<Slot> slots_;
  };

  static absl::StatusOr<std::unique_ptr<SlotPool>> Make(Device* device, int num_slots);
  absl::StatusOr<Slots> Take(int num_slots);

 private:
  SlotPool() = default;
  void GiveBack(const std::vector<Slot>& slots);

  Buffer host_;
  Buffer device_;
  int num_slots_ = 0;
  std::mutex mutex_;
  std::vector<Slot> free_;  // guarded by mutex_
};

using Slots = SlotPool::Slots;

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_SLOTS_H_
