// What a rank says of a sequence, event by event, into the messages that the client gets: all
// choices, side by side, and over all the ranks that answer it one after another.
//
//   AnswerTranslator answer(&model, sequence, {.wants_logprobs = true});
//   v1::GenerateResponse response;
//   RETURN_IF_ERROR(answer.Translate(event, response));
//   if (answer.has_ended()) ...   // every choice has
//
// Every token is passed on as it comes: which of them may leave, and where a stop string cuts, is
// the rank's decision. Each is passed on once: what a replay tells again of what the client has is compared
// and dropped. An answer that began at another router continues with the ids that the client received:
//
//   ids      [ received by the client ...... | new ]
//   split    [ those whose text is known ]           until the rank has said where the next ones are cut
//
// No I/O. Errors: INTERNAL if the rank sends what cannot be: a token out of turn, another one than before.
// Threads: one stream, one owner.
#ifndef ORRERY_SERVICES_ROUTER_ANSWER_TRANSLATOR_H_
#define ORRERY_SERVICES_ROUTER_ANSWER_TRANSLATOR_H_

#include <cstdint>
#include <optional>
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
    // What the client has of an answer that began at another router, one per choice; else empty.
    std::vector<internal::ChoiceSoFar> received = {};
  };

  // `model` must outlive the translator.
  AnswerTranslator(const ServedModel* model, const internal::SequenceRequest& sequence,
                   const Options& options);

  // Sets the event of `response`; leaves it unset if there is none to pass on.
  absl::Status Translate(const internal::SequenceEvent& event, v1::GenerateResponse& response);
  // What a replay needs to know.
  void FillSoFar(internal::SequenceRequest& sequence) const;

  // Whether all choices have.
  bool has_ended() const { return num_ended_ == static_cast<int>(choices_.size()); }
  // Of all choices, those that were passed on here.
  int64_t num_tokens() const { return num_tokens_; }

 private:
  struct Choice {
    DeltaSplitter splitter;
    std::vector<int32_t> ids = {};
    int num_split = 0;  // of ids
    bool has_ended = false;
  };

  absl::Status TranslateToken(const internal::SequenceToken& token, v1::GenerateResponse& response);
  void FillDelta(const internal::SequenceToken& token, SplitDelta split, v1::Delta& delta) const;
  absl::Status TranslateEnd(const internal::SequenceEnd& end, v1::Finished& finished);
  absl::StatusOr<Choice*> OpenChoice(int index);
  // The next of the choice's ids through its splitter.
  SplitDelta SplitNext(Choice& choice, std::optional<int> text_bytes) const;

  const ServedModel* model_;
  const bool wants_logprobs_;
  const int max_new_tokens_;
  std::vector<Choice> choices_;
  int num_ended_ = 0;
  int64_t num_tokens_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ANSWER_TRANSLATOR_H_
