#include "exchange/nccl/pipe.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {

void Pipe::Send(std::string_view bytes, absl::Duration timeout) {
  ORRERY_CHECK(HasRoom() && bytes.size() <= kSlotBytes)
      << bytes.size() << " bytes, " << operations_.size() << " under way";
  std::memcpy(slots_[next_number_ % slots_.size()].host, bytes.data(), bytes.size());
  Add(bytes.size(), timeout);
}

void Pipe::Receive(size_t num_bytes, absl::Duration timeout) {
  ORRERY_CHECK(num_bytes <= kSlotBytes) << num_bytes << " bytes";
  Add(num_bytes, timeout);
}

absl::Status Pipe::Advance(absl::Time now) {
  RETURN_IF_ERROR(communicator_->Ready().status());  // also while nothing is under way
  for (Operation& operation : operations_) {
    bool stepped = true;
    while (stepped) {
      ASSIGN_OR_RETURN(stepped, Step(operation, now));
    }
    if (now >= operation.give_up_at && operation.phase != Phase::kOver) {
      return absl::DeadlineExceededError(absl::StrCat(
          direction_ == Direction::kSend ? "sending " : "receiving ", operation.num_bytes,
          " bytes took more than ", absl::FormatDuration(operation.timeout)));
    }
    // NCCL takes one at a time.
    if (operation.phase == Phase::kWaiting || operation.phase == Phase::kAsked) break;
  }
  if (direction_ == Direction::kSend) {
    while (!operations_.empty() && operations_.front().phase == Phase::kOver) Pop();
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Pipe::Step(Operation& operation, absl::Time now) {
  switch (operation.phase) {
    case Phase::kWaiting: {
      if (operation.number - operations_.front().number >= slots_.size()) return false;
      ASSIGN_OR_RETURN(const bool joined, communicator_->Ready());
      if (!joined) return false;
      RETURN_IF_ERROR(Ask(operation));
      operation.phase = Phase::kAsked;
      operation.give_up_at = now + operation.timeout;
      return true;
    }
    case Phase::kAsked: {
      ASSIGN_OR_RETURN(const bool taken, communicator_->Ready());
      if (!taken) return false;
      RETURN_IF_ERROR(MarkEnd(operation));
      operation.phase = Phase::kMoving;
      return true;
    }
    case Phase::kMoving: {
      ASSIGN_OR_RETURN(const bool over, communicator_->IsOver(SlotOf(operation)));
      if (!over) return false;
      operation.phase = Phase::kOver;
      return true;
    }
    case Phase::kOver:
      break;
  }
  return false;
}

absl::Status Pipe::Ask(const Operation& operation) {
  const Slot& slot = slots_[SlotOf(operation)];
  if (direction_ == Direction::kSend) {
    return communicator_->Send(slot.host, slot.device, operation.num_bytes);
  }
  return communicator_->Receive(slot.device, operation.num_bytes);
}

absl::Status Pipe::MarkEnd(const Operation& operation) {
  const Slot& slot = slots_[SlotOf(operation)];
  if (direction_ == Direction::kReceive) {
    RETURN_IF_ERROR(communicator_->CopyToHost(slot.host, slot.device, operation.num_bytes));
  }
  return communicator_->Mark(SlotOf(operation));
}

std::optional<std::string_view> Pipe::Arrived() const {
  if (operations_.empty() || operations_.front().phase != Phase::kOver) return std::nullopt;
  const Operation& operation = operations_.front();
  return std::string_view(reinterpret_cast<const char*>(slots_[SlotOf(operation)].host),
                          operation.num_bytes);
}

void Pipe::Pop() { operations_.pop_front(); }

}  // namespace orrery
