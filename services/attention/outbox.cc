#include "services/attention/outbox.h"

#include <iterator>
#include <utility>

#include "absl/time/clock.h"

namespace orrery {

void Outbox::Push(std::vector<OutputEvent> events) {
  {
    std::lock_guard lock(mutex_);
    std::move(events.begin(), events.end(), std::back_inserter(events_));
  }
  news_.notify_one();
}

void Outbox::Finish(absl::Status status) {
  {
    std::lock_guard lock(mutex_);
    if (!status_.has_value()) status_ = std::move(status);
  }
  news_.notify_one();
}

void Outbox::CountIn(std::shared_ptr<std::atomic<int64_t>> sum, int64_t num_bytes) {
  *sum += num_bytes;
  counted_ = std::shared_ptr<void>(nullptr,
                                   [sum = std::move(sum), num_bytes](void*) { *sum -= num_bytes; });
}

std::deque<OutputEvent> Outbox::Next(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  const auto has_news = [this] { return !events_.empty() || status_.has_value(); };
  if (deadline == absl::InfiniteFuture()) {
    news_.wait(lock, has_news);
  } else {
    news_.wait_until(lock, absl::ToChronoTime(deadline), has_news);
  }
  return std::exchange(events_, {});
}

std::deque<OutputEvent> Outbox::Take() {
  std::lock_guard lock(mutex_);
  return std::exchange(events_, {});
}

std::optional<absl::Status> Outbox::status() const {
  std::lock_guard lock(mutex_);
  return events_.empty() ? status_ : std::nullopt;
}

}  // namespace orrery
