#include "client/retry.h"

#include <algorithm>

#include "base/rng.h"

namespace orrery {

absl::Duration BackoffDelay(const Backoff& backoff, int num_failures, uint64_t key) {
  absl::Duration delay = std::min(backoff.first, backoff.longest);
  for (int i = 1; i < num_failures && delay < backoff.longest; ++i) {
    delay = std::min(2 * delay, backoff.longest);
  }
  const double part = UniformDraw({.seed = key, .position = static_cast<uint32_t>(num_failures)});
  return delay * (0.5 + 0.5 * part);
}

bool RetryBudget::Take() {
  const std::lock_guard lock(mutex_);
  if (num_left_ == 0) return false;
  --num_left_;
  return true;
}

void RetryBudget::PutBack() {
  const std::lock_guard lock(mutex_);
  num_left_ = std::min(num_left_ + 1, capacity_);
}

}  // namespace orrery
