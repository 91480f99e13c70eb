#include "services/router/answer_translator.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {

AnswerTranslator::AnswerTranslator(const ServedModel* model,
                                   const internal::SequenceRequest& sequence,
                                   const Options& options)
    : model_(model), options_(options), max_new_tokens_(sequence.max_new_tokens()) {
  const std::vector<int32_t> stop_ids(sequence.stop_ids().begin(), sequence.stop_ids().end());
  for (int k = 0; k < sequence.num_choices(); ++k) {
    choices_.push_back({.splitter = DeltaSplitter(&model_->tokenizer, model_->markers, stop_ids,
                                                  options_.starts_in_thinking)});
  }
}

absl::Status AnswerTranslator::Translate(const internal::SequenceEvent& event,
                                         v1::GenerateResponse& response) {
  if (event.has_token()) return TranslateToken(event.token(), *response.mutable_delta());
  if (event.has_end()) return TranslateEnd(event.end(), *response.mutable_finished());
  return absl::OkStatus();
}

absl::Status AnswerTranslator::TranslateToken(const internal::SequenceToken& token,
                                              v1::Delta& delta) {
  ASSIGN_OR_RETURN(Choice* const choice, OpenChoice(token.choice()));
  ++choice->num_tokens;
  ++num_tokens_;
  // A stop id has no text and a cut says so itself, so only the length tells of a last text here.
  const bool is_last = choice->num_tokens == max_new_tokens_;
  SplitDelta split = choice->splitter.Append(
      token.id(), is_last,
      token.has_text_bytes() ? std::optional<int>(token.text_bytes()) : std::nullopt);

  delta.set_kind(split.kind);
  delta.set_text(std::move(split.text));
  delta.set_id(token.id());
  delta.set_choice(token.choice());
  if (!options_.wants_logprobs) return absl::OkStatus();
  delta.set_logprob(token.logprob());
  for (const internal::IdLogprob& alternative : token.top()) {
    v1::TokenLogprob& top = *delta.add_top();
    top.set_id(alternative.id());
    top.set_logprob(alternative.logprob());
    top.set_token(std::string(model_->tokenizer.TokenBytes(alternative.id())));
  }
  return absl::OkStatus();
}

absl::Status AnswerTranslator::TranslateEnd(const internal::SequenceEnd& end,
                                            v1::Finished& finished) {
  ASSIGN_OR_RETURN(Choice* const choice, OpenChoice(end.choice()));
  choice->has_ended = true;
  ++num_ended_;
  finished.set_reason(end.reason() == internal::END_REASON_STOP ? v1::FINISH_REASON_STOP
                                                                : v1::FINISH_REASON_LENGTH);
  finished.set_choice(end.choice());
  finished.set_stop(end.stop_string());
  v1::Usage& usage = *finished.mutable_usage();
  usage.set_prompt_tokens(end.prompt_tokens());
  usage.set_output_tokens(end.output_tokens());
  usage.set_reasoning_tokens(choice->splitter.num_reasoning_tokens());
  usage.set_cached_prompt_tokens(end.cached_prompt_tokens());
  usage.set_drafted_tokens(end.drafted_tokens());
  usage.set_accepted_draft_tokens(end.accepted_draft_tokens());
  return absl::OkStatus();
}

absl::StatusOr<AnswerTranslator::Choice*> AnswerTranslator::OpenChoice(int index) {
  if (index < 0 || index >= static_cast<int>(choices_.size())) {
    return absl::InternalError(absl::StrCat("it sent choice ", index, " of ", choices_.size()));
  }
  Choice& choice = choices_[index];
  if (choice.has_ended) {
    return absl::InternalError(absl::StrCat("it sent more of choice ", index, " after its end"));
  }
  return &choice;
}

}  // namespace orrery
