// Whether a loop still turns, for those who watch it from outside.
//
//   heartbeat.Rest();                    // the loop waits for work: as long as it likes
//   heartbeat.Beat();                    // it works; again at each piece of work, at least every few seconds
//   if (heartbeat.Age() > absl::Seconds(30)) ...      // it is stuck
//
// A beat reads the clock and stores a number: some 30 ns.
//
// Threads: any. At rest from the start.
#ifndef ORRERY_BASE_HEARTBEAT_H_
#define ORRERY_BASE_HEARTBEAT_H_

#include <atomic>
#include <chrono>
#include <cstdint>

#include "absl/time/time.h"

namespace orrery {

class Heartbeat {
 public:
  void Beat() { last_.store(Now(), std::memory_order_relaxed); }
  void Rest() { last_.store(kAtRest, std::memory_order_relaxed); }
  // Since the last beat; zero at rest.
  absl::Duration Age() const {
    const int64_t last = last_.load(std::memory_order_relaxed);
    return last == kAtRest ? absl::ZeroDuration() : absl::Nanoseconds(Now() - last);
  }

 private:
  static constexpr int64_t kAtRest = 0;
  // A clock that nobody sets.
  static int64_t Now() {
    return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  std::atomic<int64_t> last_ = kAtRest;
};

}  // namespace orrery

#endif  // ORRERY_BASE_HEARTBEAT_H_
