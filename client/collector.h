// Puts an answer together from one stream, or from several, each of which continues the one before.
//
//   Collector collector(request.num_choices());
//   RETURN_IF_ERROR(collector.Add(response));            // for each message
//   if (collector.is_complete()) return collector.Take();
//   if (collector.can_resume()) collector.FillResume(*request.mutable_resume());   // for the next stream
//
// Errors: INTERNAL if the messages do not make one answer: a token too many, one too few, another request's.
// No I/O. Threads: one owner.
#ifndef ORRERY_CLIENT_COLLECTOR_H_
#define ORRERY_CLIENT_COLLECTOR_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "client/answer.h"

namespace orrery {

class Collector {
 public:
  explicit Collector(int num_choices) : num_choices_(num_choices < 1 ? 1 : num_choices) {}

  absl::Status Add(const v1::GenerateResponse& response);

  // Whether every choice has finished.
  bool is_complete() const { return num_finished_ == num_choices_; }
  // INTERNAL, saying what is missing, if it is not complete.
  absl::StatusOr<Answer> Take();

  bool can_resume() const { return !answer_.started.resume_token().empty(); }
  // What the next stream must know; numbers the attempts.
  void FillResume(v1::Resume& resume);
  // Deltas and ends so far.
  int64_t num_events() const { return num_events_; }

 private:
  absl::Status AddStarted(const v1::Started& started);
  absl::Status AddDelta(const v1::Delta& delta);
  absl::Status AddFinished(const v1::Finished& finished);
  absl::StatusOr<Choice*> Open(int index);
  bool HasFinished(int index) const;

  const int num_choices_;
  Answer answer_;
  std::vector<bool> has_finished_;
  int num_finished_ = 0;
  int num_resumed_ = 0;
  int64_t num_events_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_CLIENT_COLLECTOR_H_
