// Which sequence steps now, and with how many rows: a core without I/O.
//
//   waiting --Next()--> running --Remove()--> gone
//
//   scheduler.Add(id, num_prompt_tokens);
//   while (auto decision = scheduler.Next()) {
//     ... run decision->num_rows rows of decision->id ...
//     scheduler.Committed(decision->id, decision->num_rows, /*num_new_tokens=*/1);
//   }
//
// One sequence runs at a time, in order of arrival; a prompt longer than max_step_rows is processed
// in chunks. Batching several sequences changes Next() and nothing around it. No clock, no lock:
// belongs to the engine.
#ifndef ORRERY_SERVICES_ATTENTION_SCHEDULER_H_
#define ORRERY_SERVICES_ATTENTION_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <optional>

#include "base/status.h"

namespace orrery {

using SequenceId = uint64_t;

class Scheduler {
 public:
  struct Options {
    int max_waiting_requests = 256;
    int max_step_rows = 256;
  };
  struct Decision {
    SequenceId id = 0;
    int first_position = 0;
    int num_rows = 0;
    // The last known token is among the rows: its log-probabilities give the next one.
    bool reaches_end = false;
  };

  explicit Scheduler(const Options& options) : options_(options) {}

  // RESOURCE_EXHAUSTED when max_waiting_requests are waiting behind the running one.
  absl::Status Add(SequenceId id, int num_tokens);
  // What to run next; nullopt when nothing is left. Asking twice gives the same answer.
  std::optional<Decision> Next() const;
  // num_rows of the sequence were computed and num_new_tokens appended to it.
  void Committed(SequenceId id, int num_rows, int num_new_tokens);
  // Finished, failed or cancelled; unknown ids are ignored.
  void Remove(SequenceId id);

  int num_running() const { return entries_.empty() ? 0 : 1; }
  int num_waiting() const { return static_cast<int>(entries_.size()) - num_running(); }

 private:
  struct Entry {
    SequenceId id = 0;
    int num_tokens = 0;    // known: prompt and answer so far
    int num_computed = 0;  // of these, how many are in the cache
  };
  const Options options_;
  std::deque<Entry> entries_;  // the front one is running
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SCHEDULER_H_
