// Answers that a rank has already, asked for once more: of a late shard that another one was asked beside,
// of one that is probed, and one in ten thousand on purpose. Nobody waits for them. When they come, they are compared: an expert is a
// function of its row, so two answers that differ mean that one of two machines is broken.
//
//   seconds.Keep(ticket, {.peer = 2, ...});       // the layer goes on
//   seconds.Look(now, scratch);                   // in the next layer: takes those that have come
//
// A difference is logged with shard, layer, expert and row, and counted by the directory, which `orrery
// status` shows. Which of the two was right it cannot know.
//
// At most kMaxOpen are open; more are given up, as are those that have not come within kMaxAge.
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_SECOND_ANSWERS_H_
#define ORRERY_SERVICES_ATTENTION_SECOND_ANSWERS_H_

#include <cstddef>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "exchange/exchange.h"
#include "services/attention/expert_directory.h"
#include "services/attention/shard_health.h"

namespace orrery {

class SecondAnswers {
 public:
  static constexpr int kMaxOpen = 8;
  static constexpr absl::Duration kMaxAge = absl::Seconds(10);

  // What was asked, and the answers that are there: the result of asked.entries[i] lies at
  // first + i * result_bytes. Copied.
  struct Question {
    PeerEntries asked;
    int layer = 0;
    std::vector<std::byte> first;
  };

  // All outlive it.
  SecondAnswers(RankExchange* exchange, ExpertDirectory* directory, ShardHealth* health,
                size_t result_bytes)
      : exchange_(exchange), directory_(directory), health_(health), result_bytes_(result_bytes) {}

  bool empty() const { return open_.empty(); }
  bool is_full() const { return open_.size() >= kMaxOpen; }
  // The ticket is this object's now.
  void Keep(Ticket ticket, Question question, absl::Time now);
  // Takes what has come. scratch: room for all results that any of the questions names.
  void Look(absl::Time now, absl::Span<std::byte> scratch);
  // Counts one answer that was there twice, and logs it if they differ.
  void Compare(int peer, int layer, const DispatchEntry& entry, const std::byte* first,
               const std::byte* second);

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
  const size_t result_bytes_;
  std::vector<Open> open_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SECOND_ANSWERS_H_
