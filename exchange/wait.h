// Waiting on a condition variable until an absl::Time. Header only.
//
//   std::unique_lock lock(mutex);
//   bool held = WaitUntil(changed, lock, deadline, [&] { return done; });   // guarded by mutex
//
// std::mutex and not absl::Mutex, because the thread sanitizer sees into the one and not into
// Debian's build of the other.
#ifndef ORRERY_EXCHANGE_WAIT_H_
#define ORRERY_EXCHANGE_WAIT_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace orrery {

template <typename Predicate>
bool WaitUntil(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
               absl::Time deadline, Predicate&& predicate) {
  // Far deadlines overflow the arithmetic of some standard libraries; a day later the loop would
  // look again anyway.
  while (!predicate()) {
    const absl::Time now = absl::Now();
    if (now >= deadline) return false;
    changed.wait_until(lock, absl::ToChronoTime(std::min(deadline, now + absl::Hours(24))));
  }
  return true;
}

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_WAIT_H_
