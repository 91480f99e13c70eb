// Whether a rank takes one more request: a state machine without I/O; the time is passed in.
//
//   RETURN_IF_ERROR(admission.Take(visit, now));    // a place, or RESOURCE_EXHAUSTED with the numbers
//   admission.OnStarted(visit, now);                // it waits no more
//   admission.OnEnded(visit, /*is_served=*/true, now);
//
//   (new) --Take--> waiting --OnStarted--> running --OnEnded--> (gone)
//                      `-----------------OnEnded------------------^
//
// Four bounds:
//   places  As many requests as a tenant that is alone may have, and as many again. Nobody holds more than
//           are left (dynamic thresholds: Choudhury and Hahne, 1998), so that a flood of one tenant leaves room for
//           the others.
//   tokens  The same for the prompt tokens of those that wait, each choice counted: they are what a waiting
//           request holds of the memory.
//   bytes   What requests may hold of the memory until their clients have read everything, whether they wait, run or
//           have ended: with it the memory of the process is bounded (host_memory.h). Likewise, but for this a request
//           is never too long to be refused.
//   time    A request is refused if by its deadline it would not be answered, as far as one can tell from
//           how requests have been ending. Else a rank with more work than it can do works for answers that nobody waits for any
//           more. It would wait for those of its tenant before it, while tenants take turns, and then run as
//           long as others have been running. Both are taken a third longer than they were, since an answer that
//           comes a little late was for nothing, and one that was refused early costs a try elsewhere.
// Every refusal says when another try is worth its while (base/refusal_times.h), but that of a request which never fits;
// one for want of time, also how long it would have taken.
//
// Replays have been admitted before: they have places and bytes of their own, of which anyone may have all, and
// are asked for neither tokens nor time.
//
// Threads: none of its own; the engine calls it with its lock.
#ifndef ORRERY_SERVICES_ATTENTION_ADMISSION_H_
#define ORRERY_SERVICES_ATTENTION_ADMISSION_H_

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"

namespace orrery {

class Admission {
 public:
  struct Options {
    int max_open = 0;                // requests of a tenant that is alone
    int64_t max_waiting_tokens = 0;  // of a tenant that is alone
    // Of all together; replays have as many again.
    int64_t max_bytes = std::numeric_limits<int64_t>::max();
  };
  // A request as long as it is here; the same at each call.
  struct Visit {
    std::string tenant;
    int64_t num_tokens = 0;  // of the prompt, once for each choice
    int64_t num_bytes = 0;   // that it may hold
    bool is_replay = false;
    absl::Time deadline = absl::InfiniteFuture();
    std::optional<absl::Time> started_at;  // set by OnStarted
  };

  explicit Admission(const Options& options) : options_(options) {}

  // Bytes that requests hold which have ended: replays, and the others.
  void SetUnread(int64_t num_bytes, int64_t num_replay_bytes) {
    num_unread_bytes_ = num_bytes;
    num_unread_replay_bytes_ = num_replay_bytes;
  }
  absl::Status Take(const Visit& visit, absl::Time now);
  // The first time that it is computed; later calls have no effect.
  void OnStarted(Visit& visit, absl::Time now);
  // is_served: to its end, and not dropped.
  void OnEnded(const Visit& visit, bool is_served, absl::Time now);

 private:
  struct Tenant {
    int num_open = 0;
    int num_waiting = 0;
    int64_t num_waiting_tokens = 0;
    int64_t num_bytes = 0;
  };
  absl::Status CheckPlaces(const Tenant& tenant) const;
  absl::Status CheckTokens(const Tenant& tenant, int64_t num_tokens) const;
  absl::Status CheckBytes(const Tenant& tenant, int64_t num_bytes) const;
  absl::Status CheckSize(const Visit& visit) const;  // whether it fits at any time
  absl::Status TakeReplay(const Visit& visit);
  absl::Status CheckTime(const Tenant& tenant, const Visit& visit, absl::Time now) const;
  // How long until one that comes now would start; zero until that is known.
  absl::Duration WaitOf(const Tenant& tenant) const;
  int NumWaitingTenants() const;
  void StopWaiting(const Visit& visit);
  void NoteServed(const Visit& visit, absl::Time now);

  const Options options_;
  std::map<std::string, Tenant> tenants_;  // those with open requests, replays not counted
  int num_open_ = 0;
  int num_replays_ = 0;
  int num_waiting_ = 0;
  int64_t num_waiting_tokens_ = 0;
  int64_t num_bytes_ = 0;  // replays not counted
  int64_t num_replay_bytes_ = 0;
  int64_t num_unread_bytes_ = 0;  // likewise
  int64_t num_unread_replay_bytes_ = 0;

  // How requests have been ending: decayed means, zero until one is known.
  absl::Duration interval_;             // between two ends, while others waited
  absl::Duration service_;              // from start to end
  std::optional<absl::Time> last_end_;  // if others have been waiting since
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ADMISSION_H_
