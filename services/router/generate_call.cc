#include "services/router/generate_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {

GenerateCall::GenerateCall(const Options& options, grpc::ServerContext* context,
                           const ServedModel* model, RouterState* state, const RankStubs* ranks,
                           Write write)
    : options_(options),
      context_(context),
      model_(model),
      state_(state),
      ranks_(ranks),
      write_(std::move(write)) {}

absl::Status GenerateCall::Run(internal::SequenceRequest sequence) {
  sequence_ = std::move(sequence);
  const std::vector<int32_t> stop_ids(sequence_.stop_ids().begin(), sequence_.stop_ids().end());
  for (int k = 0; k < sequence_.num_choices(); ++k) {
    choices_.push_back({.splitter = DeltaSplitter(&model_->tokenizer, model_->markers, stop_ids,
                                                  options_.starts_in_thinking)});
  }

  Action action;
  {
    absl::MutexLock lock(&state_->mutex);
    action = state_->core.OnRequest(options_.number, sequence_.tenant());
  }
  if (action.kind == Action::Kind::kFinish) return action.status;
  v1::Started& started = *response_.mutable_started();
  started.set_request_id(sequence_.request_id());
  started.set_model(model_->name);
  started.set_seed(sequence_.sampling().seed());
  started.set_prompt_tokens(sequence_.prompt_ids_size());
  if (!Send().ok()) return Tell(&RouterCore::OnCancelled).status;

  while (action.kind == Action::Kind::kStart) action = RunOn(action.member);
  return action.status;
}

Action GenerateCall::RunOn(int member) {
  // The client's cancellation reaches the rank by itself.
  const std::unique_ptr<grpc::ClientContext> rank_context =
      grpc::ClientContext::FromServerContext(*context_);
  SetDeadline(*rank_context, options_.deadline);
  const auto reader = ranks_->at(member)->Generate(rank_context.get(), sequence_);
  const absl::Status forwarded = ForwardEvents(*reader);
  if (!forwarded.ok()) rank_context->TryCancel();
  const absl::Status status = FromGrpcStatus(reader->Finish());

  TellTokens();
  if (absl::IsCancelled(forwarded) || context_->IsCancelled()) {
    return Tell(&RouterCore::OnCancelled);
  }
  if (!forwarded.ok()) return TellFailed(forwarded);
  if (num_ended_ == sequence_.num_choices()) return Tell(&RouterCore::OnEnded);
  if (absl::IsDeadlineExceeded(status)) return Tell(&RouterCore::OnDeadline);
  if (status.ok()) return TellFailed(absl::InternalError("the stream ended without a result"));
  // We did not cancel, so the rank did: it is stopping.
  if (absl::IsCancelled(status)) return TellFailed(absl::UnavailableError("it is stopping"));
  return TellFailed(status);
}

absl::Status GenerateCall::ForwardEvents(grpc::ClientReader<internal::SequenceEvent>& reader) {
  internal::SequenceEvent event;
  while (num_ended_ < sequence_.num_choices() && reader.Read(&event)) {
    if (event.has_token()) RETURN_IF_ERROR(ForwardToken(event.token()));
    if (event.has_end()) RETURN_IF_ERROR(ForwardEnd(event.end()));
  }
  return absl::OkStatus();
}

absl::Status GenerateCall::ForwardToken(const internal::SequenceToken& token) {
  ASSIGN_OR_RETURN(Choice* const choice, OpenChoice(token.choice()));
  ++choice->num_tokens;
  if (++num_tokens_ == 1) TellTokens();
  // A stop id has no text and a cut says so itself, so only the length tells of a last text here.
  const bool is_last = choice->num_tokens == sequence_.max_new_tokens();
  SplitDelta split = choice->splitter.Append(
      token.id(), is_last,
      token.has_text_bytes() ? std::optional<int>(token.text_bytes()) : std::nullopt);

  v1::Delta& delta = *response_.mutable_delta();
  delta.Clear();
  delta.set_kind(split.kind);
  delta.set_text(std::move(split.text));
  delta.set_id(token.id());
  delta.set_choice(token.choice());
  if (options_.wants_logprobs) {
    delta.set_logprob(token.logprob());
    for (const internal::IdLogprob& alternative : token.top()) {
      v1::TokenLogprob& top = *delta.add_top();
      top.set_id(alternative.id());
      top.set_logprob(alternative.logprob());
      top.set_token(std::string(model_->tokenizer.TokenBytes(alternative.id())));
    }
  }
  return Send();
}

absl::Status GenerateCall::ForwardEnd(const internal::SequenceEnd& end) {
  ASSIGN_OR_RETURN(Choice* const choice, OpenChoice(end.choice()));
  choice->has_ended = true;
  ++num_ended_;
  v1::Finished& finished = *response_.mutable_finished();
  finished.Clear();
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
  return Send();
}

absl::StatusOr<GenerateCall::Choice*> GenerateCall::OpenChoice(int index) {
  if (index < 0 || index >= sequence_.num_choices()) {
    return absl::InternalError(
        absl::StrCat("it sent choice ", index, " of ", sequence_.num_choices()));
  }
  Choice& choice = choices_[index];
  if (choice.has_ended) {
    return absl::InternalError(absl::StrCat("it sent more of choice ", index, " after its end"));
  }
  return &choice;
}

absl::Status GenerateCall::Send() {
  return write_(response_) ? absl::OkStatus() : absl::CancelledError("the client is gone");
}

Action GenerateCall::Tell(Action (RouterCore::*event)(int64_t)) {
  absl::MutexLock lock(&state_->mutex);
  return (state_->core.*event)(options_.number);
}

Action GenerateCall::TellFailed(const absl::Status& status) {
  absl::MutexLock lock(&state_->mutex);
  return state_->core.OnFailed(options_.number, status);
}

void GenerateCall::TellTokens() {
  if (num_told_tokens_ == num_tokens_) return;
  absl::MutexLock lock(&state_->mutex);
  state_->core.OnToken(options_.number, num_tokens_ - num_told_tokens_);
  num_told_tokens_ = num_tokens_;
}

}  // namespace orrery
