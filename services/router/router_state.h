// The core and its lock: what the service, the watch and the router's own description share.
//
//   Action action = state.With([&](RouterCore& core) { return core.OnEnded(request); });
//   bool all_ended = state.AwaitNoneOpen(absl::Now() + absl::Seconds(5));
//
// With is for single events, never across I/O. Threads: all methods from any thread; what With runs
// must not call the state again.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_STATE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_STATE_H_

#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/time/time.h"
#include "services/router/router_core.h"

namespace orrery {

class RouterState {
 public:
  explicit RouterState(RouterCore core) : core_(std::move(core)) {}

  template <typename Event>
  auto With(Event&& event) {
    const std::lock_guard lock(mutex_);
    const absl::Cleanup tell = [this] {
      if (core_.num_open_requests() == 0) none_open_.notify_all();
    };
    return event(core_);
  }

  // False if requests are still open at the deadline.
  bool AwaitNoneOpen(absl::Time deadline) {
    std::unique_lock lock(mutex_);
    return none_open_.wait_until(lock, absl::ToChronoTime(deadline),
                                 [this] { return core_.num_open_requests() == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_open_;
  RouterCore core_;  // guarded by mutex_
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_STATE_H_
