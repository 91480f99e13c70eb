// The tokens of one sequence on their way from the engine's loop to the stream of its client.
//
// The loop pushes and finishes, one handler pops, either side may cancel. Bounded by max_new_tokens
// of the request.
// Thread-safe.
#ifndef ORRERY_SERVICES_ATTENTION_OUTBOX_H_
#define ORRERY_SERVICES_ATTENTION_OUTBOX_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "services/attention/sampler.h"

namespace orrery {

struct OutputToken {
  IdAndLogprob token;
  std::vector<IdAndLogprob> top;
};

enum class EndReason { kStop, kLength };

class Outbox {
 public:
  // Engine side.
  void Push(OutputToken token) {
    absl::MutexLock lock(&mutex_);
    tokens_.push_back(std::move(token));
  }
  void Finish(absl::StatusOr<EndReason> end) {
    absl::MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = std::move(end);
  }
  bool cancelled() const {
    absl::MutexLock lock(&mutex_);
    return cancelled_;
  }

  // Handler side. The next token; nullopt when the sequence has ended or the deadline passed: see
  // end().
  std::optional<OutputToken> Next(absl::Time deadline) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithDeadline(absl::Condition(this, &Outbox::HasNews), deadline);
    if (tokens_.empty()) return std::nullopt;
    OutputToken token = std::move(tokens_.front());
    tokens_.pop_front();
    return token;
  }
  // How it ended, once it has and every token was taken.
  std::optional<absl::StatusOr<EndReason>> end() const {
    absl::MutexLock lock(&mutex_);
    return tokens_.empty() ? end_ : std::nullopt;
  }
  // Nobody reads any more; the engine drops the sequence before its next step.
  void Cancel() {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
  }

 private:
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !tokens_.empty() || end_.has_value();
  }

  mutable absl::Mutex mutex_;
  std::deque<OutputToken> tokens_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::StatusOr<EndReason>> end_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_OUTBOX_H_
