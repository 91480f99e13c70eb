#include "exchange/edge/pipe.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {

void Pipe::Send(std::string_view bytes, absl::Duration timeout) {
  ORRERY_CHECK(HasRoom() && bytes.size() <= kSlotBytes)
      << bytes.size() << " bytes, " << operations_.size() << " under way";
  std::memcpy(mover_->host(static_cast<int>(next_number_ % num_slots())), bytes.data(),
              bytes.size());
  Add(bytes.size(), timeout);
}

void Pipe::Receive(size_t num_bytes, absl::Duration timeout) {
  ORRERY_CHECK(num_bytes <= kSlotBytes) << num_bytes << " bytes";
  Add(num_bytes, timeout);
}

absl::Status Pipe::Advance(absl::Time now) {
  RETURN_IF_ERROR(mover_->Ready().status());  // also while nothing is under way
  for (Operation& operation : operations_) {
    bool stepped = true;
    while (stepped) {
      ASSIGN_OR_RETURN(stepped, Step(operation, now));
    }
    if (now >= operation.give_up_at && !IsDone(operation)) {
      return absl::DeadlineExceededError(absl::StrCat(
          direction_ == Direction::kSend ? "sending " : "receiving ", operation.num_bytes,
          " bytes took more than ", absl::FormatDuration(operation.timeout)));
    }
    // A mover takes one at a time.
    if (operation.phase == Phase::kWaiting || operation.phase == Phase::kAsked) break;
  }
  if (direction_ == Direction::kSend) {
    while (!operations_.empty() && IsDone(operations_.front())) Pop();
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Pipe::Step(Operation& operation, absl::Time now) {
  const int slot = SlotOf(operation);
  switch (operation.phase) {
    case Phase::kWaiting: {
      if (operation.number - operations_.front().number >= num_slots()) return false;
      ASSIGN_OR_RETURN(const bool ready, mover_->Ready());
      if (!ready) return false;
      RETURN_IF_ERROR(mover_->Start(slot, operation.num_bytes));
      operation.phase = Phase::kAsked;
      operation.give_up_at = now + operation.timeout;
      return true;
    }
    case Phase::kAsked: {
      ASSIGN_OR_RETURN(const bool ready, mover_->Ready());
      if (!ready) return false;
      RETURN_IF_ERROR(mover_->Finish(slot, operation.num_bytes));
      operation.phase = Phase::kMoving;
      return true;
    }
    case Phase::kMoving: {
      ASSIGN_OR_RETURN(const bool over, mover_->IsOver(slot));
      if (!over) return false;
      operation.phase = Phase::kOver;
      return true;
    }
    case Phase::kOver:
      break;
  }
  return false;
}

absl::Status Pipe::Freed(uint64_t num_freed) {
  if (num_freed > next_number_) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: ", num_freed,
                                                   " sends are freed, there were ", next_number_));
  }
  num_freed_ = std::max(num_freed_, num_freed);
  return absl::OkStatus();
}

std::optional<std::string_view> Pipe::Arrived() const {
  if (operations_.empty() || operations_.front().phase != Phase::kOver) return std::nullopt;
  const Operation& operation = operations_.front();
  return std::string_view(reinterpret_cast<const char*>(mover_->host(SlotOf(operation))),
                          operation.num_bytes);
}

void Pipe::Pop() { operations_.pop_front(); }

}  // namespace orrery
