// One direction of an edge: what is sent into it comes out at the other end, in order.
//
//   Pipe out(Direction::kSend, std::move(mover), carrier.is_one_sided());
//   RETURN_IF_ERROR(out.Meet(words));
//   if (out.HasRoom()) out.Send(rows, timeout);     // copied
//   RETURN_IF_ERROR(out.Advance(absl::Now()));      // again and again, until out.idle()
//   RETURN_IF_ERROR(out.Freed(n));                  // one-sided: the other end has taken n
//
//   in.Receive(num_bytes, timeout);                 // that much was said to come
//   RETURN_IF_ERROR(in.Advance(absl::Now()));
//   if (const auto bytes = in.Arrived()) { ... in.Pop(); }
//
//                 Send, Receive       ready, a slot is free         ready           over
//   an operation: ------------> kWaiting -------------------> kAsked ----> kMoving -----> kOver
//
// Asked for before the mover is ready, an operation waits. A receive waits, too, while all slots hold what
// was not popped; a send needs room, and keeps its slot until it is over and, one-sided, freed.
//
// Errors, of Advance: the mover's, and DEADLINE_EXCEEDED for an operation that is not over in time.
// After one the pipe is to be destroyed, which may block (exchange/edge/undertaker.h).
// Threads: one at a time.
#ifndef ORRERY_EXCHANGE_EDGE_PIPE_H_
#define ORRERY_EXCHANGE_EDGE_PIPE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/edge/mover.h"

namespace orrery {

class Pipe {
 public:
  Pipe(Direction direction, std::unique_ptr<Mover> mover, bool is_one_sided)
      : direction_(direction), is_one_sided_(is_one_sided), mover_(std::move(mover)) {}

  absl::Status Meet(std::string_view words) { return mover_->Meet(words); }
  bool HasRoom() const { return operations_.size() < num_slots(); }
  // timeout: from when the mover is asked.
  void Send(std::string_view bytes, absl::Duration timeout);
  void Receive(size_t num_bytes, absl::Duration timeout);
  absl::Status Advance(absl::Time now);
  // Of a sender: how many of its sends the other end has taken out of the slots. INVALID_ARGUMENT if there
  // were not so many.
  absl::Status Freed(uint64_t num_freed);
  // Nothing is under way, or waits to be popped or freed.
  bool idle() const { return operations_.empty(); }
  // The oldest receive, if it is over; valid until Pop.
  std::optional<std::string_view> Arrived() const;
  void Pop();
  uint64_t num_popped() const { return next_number_ - operations_.size(); }

 private:
  enum class Phase { kWaiting, kAsked, kMoving, kOver };
  struct Operation {
    uint64_t number = 0;  // its slot is the remainder
    size_t num_bytes = 0;
    absl::Duration timeout;
    Phase phase = Phase::kWaiting;
    absl::Time give_up_at = absl::InfiniteFuture();
  };

  size_t num_slots() const { return static_cast<size_t>(mover_->num_slots()); }
  void Add(size_t num_bytes, absl::Duration timeout) {
    operations_.push_back({.number = next_number_++, .num_bytes = num_bytes, .timeout = timeout});
  }
  int SlotOf(const Operation& operation) const {
    return static_cast<int>(operation.number % num_slots());
  }
  // Nobody has to do anything for it any more.
  bool IsDone(const Operation& operation) const {
    const bool is_held = direction_ == Direction::kSend && is_one_sided_;
    return operation.phase == Phase::kOver && (!is_held || operation.number < num_freed_);
  }
  // One phase further if it can go; says whether it did.
  absl::StatusOr<bool> Step(Operation& operation, absl::Time now);

  const Direction direction_;
  const bool is_one_sided_;
  std::unique_ptr<Mover> mover_;
  std::deque<Operation> operations_;
  uint64_t next_number_ = 0;
  uint64_t num_freed_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_PIPE_H_
