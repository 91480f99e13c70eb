#include "services/attention/scheduler.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {

absl::Status Scheduler::Add(SequenceId id, int num_tokens) {
  ORRERY_CHECK(num_tokens > 0) << "sequence " << id << " has no tokens";
  if (!entries_.empty() && num_waiting() >= options_.max_waiting_requests) {
    return absl::ResourceExhaustedError(
        absl::StrCat(num_waiting(), " requests are waiting at this rank, the limit is ",
                     options_.max_waiting_requests, "; try again later"));
  }
  entries_.push_back({.id = id, .num_tokens = num_tokens, .num_computed = 0});
  return absl::OkStatus();
}

std::optional<Scheduler::Decision> Scheduler::Next() const {
  if (entries_.empty()) return std::nullopt;
  const Entry& entry = entries_.front();
  const int num_rows = std::min(options_.max_step_rows, entry.num_tokens - entry.num_computed);
  ORRERY_CHECK(num_rows > 0) << "sequence " << entry.id << " has nothing to compute at "
                             << entry.num_tokens;
  return Decision{.id = entry.id,
                  .first_position = entry.num_computed,
                  .num_rows = num_rows,
                  .reaches_end = entry.num_computed + num_rows == entry.num_tokens};
}

void Scheduler::Committed(SequenceId id, int num_rows, int num_new_tokens) {
  ORRERY_CHECK(!entries_.empty() && entries_.front().id == id)
      << "sequence " << id << " is not running";
  Entry& entry = entries_.front();
  entry.num_computed += num_rows;
  entry.num_tokens += num_new_tokens;
  ORRERY_CHECK(entry.num_computed <= entry.num_tokens)
      << "sequence " << id << ": " << entry.num_computed << " rows of " << entry.num_tokens
      << " tokens";
}

void Scheduler::Remove(SequenceId id) {
  std::erase_if(entries_, [id](const Entry& entry) { return entry.id == id; });
}

}  // namespace orrery
