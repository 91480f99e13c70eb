#include "services/attention/second_answers.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace orrery {

void SecondAnswers::Keep(Ticket ticket, Question question, absl::Time now) {
  if (is_full()) {
    exchange_->Abandon(ticket);
    return;
  }
  open_.push_back({.ticket = ticket, .question = std::move(question), .give_up_at = now + kMaxAge});
}

void SecondAnswers::Look(absl::Time now, absl::Span<std::byte> scratch) {
  std::erase_if(open_, [&](const Open& open) {
    if (exchange_->Await(open.ticket, absl::InfinitePast())) {
      Take(open, scratch);
      return true;
    }
    if (now < open.give_up_at) return false;
    exchange_->Abandon(open.ticket);
    return true;
  });
}

void SecondAnswers::Take(const Open& open, absl::Span<std::byte> scratch) {
  const Question& question = open.question;
  const std::optional<absl::Duration> after = exchange_->AnsweredAfter(open.ticket);
  if (after.has_value()) {
    health_->OnAnswered(question.asked.peer, static_cast<int>(question.asked.entries.size()),
                        *after);
  }
  const CombineReport report = exchange_->Combine(open.ticket, absl::InfinitePast(), scratch);
  size_t next = 0;  // of the report, which is in the order of the entries
  for (size_t i = 0; i < question.asked.entries.size(); ++i) {
    const DispatchEntry& entry = question.asked.entries[i];
    if (next < report.size() && report[next].entry.result == entry.result) {
      ++next;
      continue;
    }
    Compare(question.asked.peer, question.layer, entry, question.first.data() + i * result_bytes_,
            scratch.data() + entry.result * result_bytes_);
  }
}

void SecondAnswers::Compare(int peer, int layer, const DispatchEntry& entry, const std::byte* first,
                            const std::byte* second) {
  const bool differs = std::memcmp(first, second, result_bytes_) != 0;
  directory_->CountCompared(peer, differs);
  if (!differs) return;
  LogError(directory_->shard_name(peer), " and another shard gave different answers for layer ",
           layer, ", expert ", entry.expert, ", row ", entry.row,
           ": one of the two machines is broken");
}

}  // namespace orrery
