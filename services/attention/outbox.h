// The tokens of one request on their way from the engine's loop to the stream of its client.
//
// The loop pushes and finishes, one reader takes, either side may cancel. A reader waits for news (Next),
// or is a listener that is told of them by the engine's courier and holds no thread (Take). Bounded by
// max_new_tokens and num_choices of the request.
// Thread-safe.
#ifndef ORRERY_SERVICES_ATTENTION_OUTBOX_H_
#define ORRERY_SERVICES_ATTENTION_OUTBOX_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "services/attention/answer_stream.h"

namespace orrery {

// The end of one choice.
struct ChoiceEnd {
  int choice = 0;
  AnswerEnd end;
  int num_tokens = 0;      // of its answer
  int cached_tokens = 0;   // of the prompt, what the prefix cache held
  int drafted_tokens = 0;  // speculative decoding
  int accepted_tokens = 0;
};

using OutputEvent = std::variant<OutputToken, ChoiceEnd>;

class Outbox {
 public:
  // on_news may be empty. See Engine::Submit.
  explicit Outbox(std::function<void()> on_news = nullptr) : on_news_(std::move(on_news)) {}

  // --- Engine side ---
  // What one step brought, in order.
  void Push(std::vector<OutputEvent> events);
  // Nothing follows: OK when every choice has ended, else why the request failed. The first counts.
  void Finish(absl::Status status);
  // Counts in `sum` until this is gone: what a request that has ended still holds, as nobody has read it.
  void CountIn(std::shared_ptr<std::atomic<int64_t>> sum, int64_t num_bytes);
  bool cancelled() const { return cancelled_; }
  bool has_listener() const { return on_news_ != nullptr; }
  // The courier's, after every Push and after Finish.
  void TellListener() const { on_news_(); }

  // --- Reader side ---
  // All that is there, at least one event; empty when the request is finished and everything was
  // taken, or the deadline passed: see status().
  std::deque<OutputEvent> Next(absl::Time deadline);
  // All that is there, without waiting.
  std::deque<OutputEvent> Take();
  // How the request ended, once it has and every event was taken.
  std::optional<absl::Status> status() const;
  // Nobody reads any more: the engine drops the request before its next step.
  void Cancel() { cancelled_ = true; }

 private:
  const std::function<void()> on_news_;
  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::deque<OutputEvent>
      events_;  // guarded by mutex_; never larger than what is in it, while it grows
  std::optional<absl::Status> status_;  // guarded by mutex_
  std::atomic<bool> cancelled_ = false;
  std::shared_ptr<void> counted_;  // by the engine's loop; takes back what was counted
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_OUTBOX_H_
