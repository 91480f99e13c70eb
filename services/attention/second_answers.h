// Answers that a rank has twice are compared: those of a late shard that another one was asked beside, of one
// that is probed, and those that are asked for twice on purpose (moe_layer.h). An expert is a function of its
// row, so two that differ mean that somebody is broken: a dispute, for the court (court.h).
//
//   seconds.Keep(ticket, {.asked = ..., .rows = ...});     // nobody waits for it; the layer goes on
//   seconds.Look(now, scratch);                            // in the next layer: takes those that have come
//   seconds.Compare({.layer = 3, .entry = entry, ...});    // or at once, where both answers are here
//   for (Dispute& dispute : seconds.TakeDisputes()) ...
//
// The directory counts what was compared, and what differed; `orrery status` shows it.
//
// At most kMaxOpen are open; more are given up, as are those that have not come within kMaxAge. Of the
// disputes kMaxDisputes are kept: one is enough to find out who is broken.
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_SECOND_ANSWERS_H_
#define ORRERY_SERVICES_ATTENTION_SECOND_ANSWERS_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "exchange/exchange.h"
#include "services/attention/expert_directory.h"
#include "services/attention/shard_health.h"
#include "services/attention/trial.h"

namespace orrery {

// Two answers to one row that differ, and the row, as it travels.
struct Dispute {
  ExpertKey key;
  std::vector<std::byte> row;
  Testimony first;
  Testimony second;
};

class SecondAnswers {
 public:
  static constexpr int kMaxOpen = 8;
  static constexpr absl::Duration kMaxAge = absl::Seconds(10);
  static constexpr size_t kMaxDisputes = 4;

  // What was asked, and the answers that are there: the result of asked.entries[i] lies at
  // first + i * result_bytes, and came from first_peers[i]. Copied.
  struct Question {
    PeerEntries asked;
    int layer = 0;
    std::vector<std::byte> rows;  // of the batch, encoded
    std::vector<std::byte> first;
    std::vector<int> first_peers;
  };
  // Two answers to one entry of a layer.
  struct Pair {
    int layer = 0;
    DispatchEntry entry;
    const std::byte* rows = nullptr;  // of the batch, encoded
    int first_peer = 0;
    const std::byte* first = nullptr;
    int second_peer = 0;
    const std::byte* second = nullptr;
  };
  struct RowSizes {
    size_t row_bytes = 0;
    size_t result_bytes = 0;
  };

  // All outlive it.
  SecondAnswers(RankExchange* exchange, ExpertDirectory* directory, ShardHealth* health,
                const RowSizes& sizes)
      : exchange_(exchange), directory_(directory), health_(health), sizes_(sizes) {}

  bool empty() const { return open_.empty(); }
  bool is_full() const { return open_.size() >= kMaxOpen; }
  // The ticket is this object's now.
  void Keep(Ticket ticket, Question question, absl::Time now);
  // Takes what has come. scratch: room for all results that any of the questions names.
  void Look(absl::Time now, absl::Span<std::byte> scratch);
  void Compare(const Pair& pair);
  std::vector<Dispute> TakeDisputes() { return std::exchange(disputes_, {}); }

 private:
  struct Open {
    Ticket ticket;
    Question question;
    absl::Time give_up_at;
  };
  void Take(const Open& open, absl::Span<std::byte> scratch);

  RankExchange* const exchange_;
  ExpertDirectory* const directory_;
  ShardHealth* const health_;
  const RowSizes sizes_;
  std::vector<Open> open_;
  std::vector<Dispute> disputes_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SECOND_ANSWERS_H_
