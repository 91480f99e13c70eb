// One direction of an edge: what is sent into it comes out at the other end, in order.
//
//   Pipe out(Direction::kSend, std::move(sender), std::move(slots));
//   if (out.HasRoom()) out.Send(rows, timeout);     // copied
//   RETURN_IF_ERROR(out.Advance(absl::Now()));      // again and again, until out.idle()
//
//   in.Receive(num_bytes, timeout);                 // that much was said to come
//   RETURN_IF_ERROR(in.Advance(absl::Now()));
//   if (const auto bytes = in.Arrived()) { ... in.Pop(); }
//
//                 Send, Receive       joined, a slot is free        NCCL has it        event
//   an operation: ------------> kWaiting -------------------> kAsked --------> kMoving -----> kOver
//
// Asked for before the communicator has joined, an operation waits. A receive waits, too, while all slots
// hold what was not popped; a send needs room.
//
// Errors, of Advance: the communicator's, and DEADLINE_EXCEEDED for an operation that is not over in time.
// After one the pipe is to be destroyed, which may block (exchange/nccl/undertaker.h).
// Threads: one at a time.
#ifndef ORRERY_EXCHANGE_NCCL_PIPE_H_
#define ORRERY_EXCHANGE_NCCL_PIPE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/nccl/communicator.h"
#include "exchange/nccl/slots.h"

namespace orrery {

class Pipe {
 public:
  Pipe(Direction direction, std::unique_ptr<Communicator> communicator, Slots slots)
      : direction_(direction), slots_(std::move(slots)), communicator_(std::move(communicator)) {}

  bool HasRoom() const { return operations_.size() < slots_.size(); }
  // timeout: from when NCCL is asked.
  void Send(std::string_view bytes, absl::Duration timeout);
  void Receive(size_t num_bytes, absl::Duration timeout);
  absl::Status Advance(absl::Time now);
  // Nothing is under way, or waits to be popped.
  bool idle() const { return operations_.empty(); }
  // The oldest receive, if it is over; valid until Pop.
  std::optional<std::string_view> Arrived() const;
  void Pop();

 private:
  enum class Phase { kWaiting, kAsked, kMoving, kOver };
  struct Operation {
    uint64_t number = 0;  // its slot is the remainder
    size_t num_bytes = 0;
    absl::Duration timeout;
    Phase phase = Phase::kWaiting;
    absl::Time give_up_at = absl::InfiniteFuture();
  };

  void Add(size_t num_bytes, absl::Duration timeout) {
    operations_.push_back({.number = next_number_++, .num_bytes = num_bytes, .timeout = timeout});
  }
  int SlotOf(const Operation& operation) const {
    return static_cast<int>(operation.number % slots_.size());
  }
  // One phase further if it can go; says whether it did.
  absl::StatusOr<bool> Step(Operation& operation, absl::Time now);
  absl::Status Ask(const Operation& operation);
  absl::Status MarkEnd(const Operation& operation);

  const Direction direction_;
  Slots slots_;
  std::unique_ptr<Communicator> communicator_;  // goes before the slots that it uses
  std::deque<Operation> operations_;
  uint64_t next_number_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_PIPE_H_
