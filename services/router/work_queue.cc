#include "services/router/work_queue.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/refusal_times.h"

namespace orrery {
namespace {

// A short request costs about this much beside its bytes.
constexpr size_t kEntryBytes = 1024;
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

WorkQueue::WorkQueue(const Options& options) : options_(options) {
  for (int i = 0; i < options.num_threads; ++i) threads_.emplace_back([this] { Loop(); });
}

WorkQueue::~WorkQueue() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status WorkQueue::Push(size_t bytes, Work work) {
  bytes += kEntryBytes;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_bytes_ + bytes > options_.max_waiting_bytes) {
      return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                                "the router has ", waiting_.size(), " requests of ", waiting_bytes_,
                                " bytes waiting to be tokenized, the limit is ",
                                options_.max_waiting_bytes, " bytes; try again later")),
                            kRetryAfter);
    }
    waiting_bytes_ += bytes;
    waiting_.push_back({.bytes = bytes, .work = std::move(work)});
  }
  changed_.notify_one();
  return absl::OkStatus();
}

void WorkQueue::Loop() {
  while (true) {
    Work work;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      work = std::move(waiting_.front().work);
      waiting_bytes_ -= waiting_.front().bytes;
      waiting_.pop_front();
    }
    work();
  }
}

}  // namespace orrery
