#include "services/router/answer_translator.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {

AnswerTranslator::AnswerTranslator(const ServedModel* model,
                                   const internal::SequenceRequest& sequence,
                                   const Options& options)
    : model_(model),
      wants_logprobs_(options.wants_logprobs),
      max_new_tokens_(sequence.max_new_tokens()) {
  const std::vector<int32_t> stop_ids(sequence.stop_ids().begin(), sequence.stop_ids().end());
  for (int k = 0; k < sequence.num_choices(); ++k) {
    Choice& choice = choices_.emplace_back(
        Choice{.splitter = DeltaSplitter(&model_->tokenizer, model_->markers, stop_ids,
                                         options.starts_in_thinking)});
    if (options.received.empty()) continue;
    const internal::ChoiceSoFar& received = options.received[k];
    choice.ids.assign(received.id().begin(), received.id().end());
    choice.has_ended = received.has_ended();
    if (choice.has_ended) ++num_ended_;
  }
}

absl::Status AnswerTranslator::Translate(const internal::SequenceEvent& event,
                                         v1::GenerateResponse& response) {
  if (event.has_token()) return TranslateToken(event.token(), response);
  if (event.has_end()) return TranslateEnd(event.end(), *response.mutable_finished());
  return absl::OkStatus();
}

void AnswerTranslator::FillSoFar(internal::SequenceRequest& sequence) const {
  sequence.clear_so_far();
  for (const Choice& choice : choices_) {
    internal::ChoiceSoFar& so_far = *sequence.add_so_far();
    so_far.set_has_ended(choice.has_ended);
    if (!choice.has_ended) so_far.mutable_id()->Assign(choice.ids.begin(), choice.ids.end());
  }
}

absl::Status AnswerTranslator::TranslateToken(const internal::SequenceToken& token,
                                              v1::GenerateResponse& response) {
  ASSIGN_OR_RETURN(Choice* const choice, OpenChoice(token.choice()));
  const int num_known = static_cast<int>(choice->ids.size());
  if (token.index() < 0 || token.index() > num_known) {
    return absl::InternalError(absl::StrCat("it sent token ", token.index(), " of choice ",
                                            token.choice(), ", expected was ", num_known));
  }
  const bool is_new = token.index() == num_known;
  if (is_new) {
    choice->ids.push_back(token.id());
    ++num_tokens_;
  } else if (choice->ids[token.index()] != token.id()) {
    return absl::InternalError(absl::StrCat("it sent id ", token.id(), " as token ", token.index(),
                                            " of choice ", token.choice(), ", which was ",
                                            choice->ids[token.index()], " before"));
  }
  if (token.index() < choice->num_split) return absl::OkStatus();
  while (choice->num_split < token.index()) SplitNext(*choice, std::nullopt);
  SplitDelta split = SplitNext(
      *choice, token.has_text_bytes() ? std::optional<int>(token.text_bytes()) : std::nullopt);
  if (is_new) FillDelta(token, std::move(split), *response.mutable_delta());
  return absl::OkStatus();
}

SplitDelta AnswerTranslator::SplitNext(Choice& choice, std::optional<int> text_bytes) const {
  const int32_t id = choice.ids[choice.num_split++];
  // A stop id has no text and a cut says so itself, so only the length tells of a last text here.
  return choice.splitter.Append(id, /*is_last=*/choice.num_split == max_new_tokens_, text_bytes);
}

void AnswerTranslator::FillDelta(const internal::SequenceToken& token, SplitDelta split,
                                 v1::Delta& delta) const {
  delta.set_kind(split.kind);
  delta.set_text(std::move(split.text));
  delta.set_id(token.id());
  delta.set_choice(token.choice());
  delta.set_index(token.index());
  if (!wants_logprobs_) return;
  delta.set_logprob(token.logprob());
  for (const internal::IdLogprob& alternative : token.top()) {
    v1::TokenLogprob& top = *delta.add_top();
    top.set_id(alternative.id());
    top.set_logprob(alternative.logprob());
    top.set_token(std::string(model_->tokenizer.TokenBytes(alternative.id())));
  }
}

absl::Status AnswerTranslator::TranslateEnd(const internal::SequenceEnd& end,
                                            v1::Finished& finished) {
  ASSIGN_OR_RETURN(Choice* const choice, OpenChoice(end.choice()));
  while (choice->num_split < static_cast<int>(choice->ids.size())) {
    SplitNext(*choice, std::nullopt);  // so that its thinking is counted
  }
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
