// What a rank says of a sequence, event by event, into the messages that the client gets: all
// choices, side by side.
//
//   AnswerTranslator answer(&model, sequence, {.wants_logprobs = true});
//   v1::GenerateResponse response;
//   RETURN_IF_ERROR(answer.Translate(event, response));
//   if (answer.has_ended()) ...   // every choice has
//
// Every token is passed on as it comes: which of them may leave, and where a stop string cuts, is
// the rank's decision.
//
// No I/O. Errors: INTERNAL if the rank sends what cannot be. Threads: one stream, one owner.
#ifndef ORRERY_SERVICES_ROUTER_ANSWER_TRANSLATOR_H_
#define ORRERY_SERVICES_ROUTER_ANSWER_TRANSLATOR_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "proto/attention.pb.h"
#include "proto/orrery.pb.h"
#include "services/router/delta_splitter.h"
#include "services/router/served_model.h"

namespace orrery {

class AnswerTranslator {
 public:
  struct Options {
    bool wants_logprobs = false;
    bool starts_in_thinking = false;
  };

  // `model` must outlive the translator.
  AnswerTranslator(const ServedModel* model, const internal::SequenceRequest& sequence,
                   const Options& options);

  // Sets the event of `response`; leaves it unset if there is none to pass on.
  absl::Status Translate(const internal::SequenceEvent& event, v1::GenerateResponse& response);

  // Whether all choices have.
  bool has_ended() const { return num_ended_ == static_cast<int>(choices_.size()); }
  // Of all choices.
  int64_t num_tokens() const { return num_tokens_; }

 private:
  struct Choice {
    DeltaSplitter splitter;
    int num_tokens = 0;
    bool has_ended = false;
  };

  absl::Status TranslateToken(const internal::SequenceToken& token, v1::Delta& delta);
  absl::Status TranslateEnd(const internal::SequenceEnd& end, v1::Finished& finished);
  absl::StatusOr<Choice*> OpenChoice(int index);

  const ServedModel* model_;
  const Options options_;
  const int max_new_tokens_;
  std::vector<Choice> choices_;
  int num_ended_ = 0;
  int64_t num_tokens_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ANSWER_TRANSLATOR_H_
