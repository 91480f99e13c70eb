#include "services/attention/second_answers.h"

#include <algorithm>
#include <cstring>
#include <utility>

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
    Compare({.layer = question.layer,
             .entry = entry,
             .rows = question.rows.data(),
             .first_peer = question.first_peers[i],
             .first = question.first.data() + i * sizes_.result_bytes,
             .second_peer = question.asked.peer,
             .second = scratch.data() + entry.result * sizes_.result_bytes});
  }
}

void SecondAnswers::Compare(const Pair& pair) {
  const bool differs = std::memcmp(pair.first, pair.second, sizes_.result_bytes) != 0;
  directory_->CountCompared(pair.second_peer, differs);
  if (!differs || disputes_.size() >= kMaxDisputes) return;
  const std::byte* const row = pair.rows + pair.entry.row * sizes_.row_bytes;
  const auto testimony = [this](int peer, const std::byte* result) {
    return Testimony{.shard = peer, .result = {result, result + sizes_.result_bytes}};
  };
  disputes_.push_back({.key = {.layer = pair.layer, .expert = pair.entry.expert},
                       .row = {row, row + sizes_.row_bytes},
                       .first = testimony(pair.first_peer, pair.first),
                       .second = testimony(pair.second_peer, pair.second)});
}

}  // namespace orrery
