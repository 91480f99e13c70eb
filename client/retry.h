// When a client tries again, and when it has tried enough: no I/O, no clock.
//
//   if (!budget.Take()) return status;
//   pause(BackoffDelay(options.backoff, num_failures, key));
//
// Delays double from the first to the longest, and are drawn from the upper half of each, so that clients
// that lost the same router do not come back in one moment. A draw depends on its key and the number of
// failures alone.
#ifndef ORRERY_CLIENT_RETRY_H_
#define ORRERY_CLIENT_RETRY_H_

#include <cstdint>
#include <mutex>

#include "absl/time/time.h"

namespace orrery {

struct Backoff {
  absl::Duration first = absl::Milliseconds(50);
  absl::Duration longest = absl::Seconds(2);
};

// After `num_failures` in a row, at least 1.
absl::Duration BackoffDelay(const Backoff& backoff, int num_failures, uint64_t key);

// What all requests of a client together may spend on trying again: so many at once, and one more for
// each that ends well. A cluster in trouble is not asked ever more often. Threads: all methods from any
// thread.
class RetryBudget {
 public:
  explicit RetryBudget(int capacity) : capacity_(capacity), num_left_(capacity) {}

  // False if nothing is left.
  bool Take();
  void PutBack();

 private:
  const int capacity_;
  std::mutex mutex_;
  int num_left_;  // guarded by mutex_
};

}  // namespace orrery

#endif  // ORRERY_CLIENT_RETRY_H_
