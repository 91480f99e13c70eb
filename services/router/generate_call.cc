#include "services/router/generate_call.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {

GenerateCall::GenerateCall(Options options, grpc::ServerContext* context, const ServedModel* model,
                           RouterState* state, const RankStubs* ranks, Write write)
    : options_(std::move(options)),
      context_(context),
      model_(model),
      state_(state),
      ranks_(ranks),
      write_(std::move(write)) {}

absl::Status GenerateCall::Run(const v1::GenerateRequest& request, const Prompt& prompt) {
  sequence_.set_request_id(options_.request_id);
  sequence_.mutable_prompt_ids()->Assign(prompt.ids.begin(), prompt.ids.end());
  sequence_.set_max_new_tokens(prompt.max_new_tokens);
  sequence_.mutable_stop_ids()->Assign(model_->config.eos_ids.begin(),
                                       model_->config.eos_ids.end());
  sequence_.set_temperature(request.temperature());
  sequence_.set_seed(request.has_seed() ? request.seed() : DrawSeed());
  sequence_.set_num_top_logprobs(request.num_top_logprobs());
  wants_logprobs_ = request.logprobs();
  splitter_ = std::make_unique<DeltaSplitter>(&model_->tokenizer, model_->markers,
                                              model_->config.eos_ids, prompt.starts_in_thinking);

  Action action = Tell(&RouterCore::OnRequest);
  if (action.kind == Action::Kind::kFinish) return action.status;
  v1::GenerateResponse response;
  v1::Started& started = *response.mutable_started();
  started.set_request_id(options_.request_id);
  started.set_model(model_->name);
  started.set_seed(sequence_.seed());
  started.set_prompt_tokens(sequence_.prompt_ids_size());
  if (!write_(response)) return Tell(&RouterCore::OnCancelled).status;

  while (action.kind == Action::Kind::kStart) action = RunOn(action.member);
  return action.status;
}

Action GenerateCall::RunOn(int member) {
  // The client's cancellation reaches the rank by itself.
  const std::unique_ptr<grpc::ClientContext> rank_context =
      grpc::ClientContext::FromServerContext(*context_);
  SetDeadline(*rank_context, options_.deadline);
  const auto reader = ranks_->at(member)->Generate(rank_context.get(), sequence_);
  bool ended = false;
  const bool client_is_there = ForwardEvents(*reader, ended);
  if (!client_is_there) rank_context->TryCancel();
  const absl::Status status = FromGrpcStatus(reader->Finish());

  if (!client_is_there || context_->IsCancelled()) return Tell(&RouterCore::OnCancelled);
  if (ended) return Tell(&RouterCore::OnEnded);
  if (absl::IsDeadlineExceeded(status)) return Tell(&RouterCore::OnDeadline);
  if (status.ok()) return TellFailed(absl::InternalError("the stream ended without a result"));
  // We did not cancel, so the rank did: it is stopping.
  if (absl::IsCancelled(status)) return TellFailed(absl::UnavailableError("it is stopping"));
  return TellFailed(status);
}

bool GenerateCall::ForwardEvents(grpc::ClientReader<internal::SequenceEvent>& reader, bool& ended) {
  internal::SequenceEvent event;
  while (!ended && reader.Read(&event)) {
    if (event.has_token() && !ForwardToken(event.token())) return false;
    if (event.has_end()) {
      ended = true;
      if (!ForwardEnd(event.end())) return false;
    }
  }
  return true;
}

bool GenerateCall::ForwardToken(const internal::SequenceToken& token) {
  Tell(&RouterCore::OnToken);
  ++num_tokens_;
  const auto& stop_ids = sequence_.stop_ids();
  const bool is_last = num_tokens_ == sequence_.max_new_tokens() ||
                       std::find(stop_ids.begin(), stop_ids.end(), token.id()) != stop_ids.end();
  SplitDelta split = splitter_->Append(token.id(), is_last);

  v1::GenerateResponse response;
  v1::Delta& delta = *response.mutable_delta();
  delta.set_kind(split.kind);
  delta.set_text(std::move(split.text));
  delta.set_id(token.id());
  if (wants_logprobs_) {
    delta.set_logprob(token.logprob());
    for (const internal::IdLogprob& alternative : token.top()) {
      v1::TokenLogprob& top = *delta.add_top();
      top.set_id(alternative.id());
      top.set_logprob(alternative.logprob());
      top.set_token(std::string(model_->tokenizer.TokenBytes(alternative.id())));
    }
  }
  return write_(response);
}

bool GenerateCall::ForwardEnd(const internal::SequenceEnd& end) {
  v1::GenerateResponse response;
  v1::Finished& finished = *response.mutable_finished();
  finished.set_reason(end.reason() == internal::END_REASON_STOP ? v1::FINISH_REASON_STOP
                                                                : v1::FINISH_REASON_LENGTH);
  v1::Usage& usage = *finished.mutable_usage();
  usage.set_prompt_tokens(end.prompt_tokens());
  usage.set_output_tokens(end.output_tokens());
  usage.set_reasoning_tokens(splitter_->num_reasoning_tokens());
  return write_(response);
}

Action GenerateCall::Tell(Action (RouterCore::*event)(int64_t)) {
  absl::MutexLock lock(&state_->mutex);
  return (state_->core.*event)(options_.number);
}

Action GenerateCall::TellFailed(const absl::Status& status) {
  absl::MutexLock lock(&state_->mutex);
  return state_->core.OnFailed(options_.number, status);
}

uint64_t DrawSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace orrery
