#include "tools/chaos/streams.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace orrery {
namespace {

constexpr size_t kMaxProblems = 10;
// For a router that is being started again.
constexpr absl::Duration kConnectTimeout = absl::Seconds(20);

}  // namespace

Streams::Streams(const Options& options)
    : options_(options), waiting_since_(options.num_streams, absl::InfiniteFuture()) {
  for (int i = 0; i < options_.num_streams; ++i) {
    threads_.emplace_back([this, i] { Run(i); });
  }
}

Streams::~Streams() {
  if (!threads_.empty()) Stop();
}

void Streams::Run(int stream) {
  absl::StatusOr<OrreryClient> client =
      OrreryClient::Connect(options_.addresses, {}, kConnectTimeout);
  std::unique_lock<std::mutex> lock(mutex_);
  if (!client.ok()) {
    ++report_.num_errors;
    report_.problems.push_back(absl::StrCat("stream ", stream, ": ", client.status().ToString()));
    changed_.notify_all();
    return;
  }
  while (!is_stopping_) {
    const Question& question = (*options_.questions)[next_question_++ % options_.questions->size()];
    const absl::Time begin = waiting_since_[stream] = absl::Now();
    lock.unlock();
    Ask(stream, *client, question);
    lock.lock();
    waiting_since_[stream] = absl::InfiniteFuture();
    const absl::Duration rest = (absl::Now() - begin) * (1.0 / options_.busy_share - 1.0);
    changed_.wait_for(lock, absl::ToChronoNanoseconds(rest), [this] { return is_stopping_; });
  }
}

void Streams::Ask(int stream, OrreryClient& client, const Question& question) {
  const absl::StatusOr<Answer> answer =
      client.Generate(question.request, options_.timeout, [&](const v1::Delta&) {
        NoteMessage(stream);
        return true;
      });
  NoteMessage(stream);
  const std::string difference = answer.ok() ? Difference(question.answer, *answer) : "";

  std::lock_guard<std::mutex> lock(mutex_);
  ++num_ended_;
  if (answer.ok()) {
    ++report_.num_answers;
    report_.request_ids.push_back(answer->started.request_id());
  }
  if (!answer.ok()) ++report_.num_errors;
  if (!difference.empty()) ++report_.num_differing;
  if ((!answer.ok() || !difference.empty()) && report_.problems.size() < kMaxProblems) {
    report_.problems.push_back(absl::StrCat("seed ", question.request.seed(), ": ",
                                            answer.ok() ? difference : answer.status().ToString()));
  }
  changed_.notify_all();
}

void Streams::NoteMessage(int stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  ++num_tokens_;
  const absl::Time now = absl::Now();
  longest_pause_ = std::max(longest_pause_, now - std::exchange(waiting_since_[stream], now));
  changed_.notify_all();
}

absl::Status Streams::AwaitTokens(int64_t num, absl::Time deadline) {
  return Await(num_tokens_, num, "tokens came", deadline);
}

absl::Status Streams::AwaitAnswers(int64_t num, absl::Time deadline) {
  return Await(num_ended_, num, "answers ended", deadline);
}

absl::Status Streams::Await(const int64_t& counter, int64_t num, const std::string& what,
                            absl::Time deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  const int64_t begin = counter;
  const bool came = changed_.wait_until(lock, absl::ToChronoTime(deadline),
                                        [&] { return counter >= begin + num; });
  if (came) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("only ", counter - begin, " of ", num, " ", what, " in time"));
}

absl::Duration Streams::TakeLongestPause() {
  std::lock_guard<std::mutex> lock(mutex_);
  const absl::Time now = absl::Now();
  for (const absl::Time since : waiting_since_) {
    longest_pause_ = std::max(longest_pause_, now - since);
  }
  return std::exchange(longest_pause_, absl::ZeroDuration());
}

int64_t Streams::num_messages() {
  std::lock_guard<std::mutex> lock(mutex_);
  return num_tokens_;
}

StreamsReport Streams::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return report_;
}

}  // namespace orrery
