// Which call answers a request, so that an attempt to resume it ends the one before it.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<GenerateCall> older, calls.Enter(request_id, attempt, call));
//   if (older != nullptr) older->Supersede();
//   ...
//   calls.Leave(request_id, call.get());
//
// Bounded by the open calls. Header only. Threads: all methods from any thread.
#ifndef ORRERY_SERVICES_ROUTER_OPEN_CALLS_H_
#define ORRERY_SERVICES_ROUTER_OPEN_CALLS_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace orrery {

class GenerateCall;

class OpenCalls {
 public:
  // The call that it takes the place of, or null; ABORTED if that one is a later attempt.
  absl::StatusOr<std::shared_ptr<GenerateCall>> Enter(const std::string& request_id, int attempt,
                                                      const std::shared_ptr<GenerateCall>& call) {
    const std::lock_guard lock(mutex_);
    Entry& entry = calls_[request_id];
    if (entry.call != nullptr && entry.attempt > attempt) {
      return absl::AbortedError(absl::StrCat("attempt ", attempt, " of request ", request_id,
                                             " comes late: attempt ", entry.attempt,
                                             " is under way"));
    }
    entry.attempt = attempt;
    return std::exchange(entry.call, call);
  }

  // No effect if another call has taken its place.
  void Leave(const std::string& request_id, const GenerateCall* call) {
    std::shared_ptr<GenerateCall> gone;  // let go of outside the lock
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find(request_id);
    if (found == calls_.end() || found->second.call.get() != call) return;
    gone = std::move(found->second.call);
    calls_.erase(found);
  }

 private:
  struct Entry {
    int attempt = 0;
    std::shared_ptr<GenerateCall> call;
  };
  std::mutex mutex_;
  std::map<std::string, Entry> calls_;  // guarded by mutex_
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_OPEN_CALLS_H_
