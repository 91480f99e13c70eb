#include "services/attention/attention_service.h"

#include <cmath>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {
namespace {

// How often a stream without news looks whether its client has gone away.
constexpr absl::Duration kCancelPoll = absl::Milliseconds(50);

// See SequenceRequest.num_top_logprobs.
constexpr int kMaxTopLogprobs = 20;

absl::StatusOr<GenerationRequest> FromProto(const internal::SequenceRequest& proto) {
  if (!std::isfinite(proto.temperature()) || proto.temperature() < 0.0f) {
    return absl::InvalidArgumentError(
        absl::StrCat("temperature is ", proto.temperature(), ", it must be 0 or more"));
  }
  if (proto.num_top_logprobs() < 0 || proto.num_top_logprobs() > kMaxTopLogprobs) {
    return absl::InvalidArgumentError(absl::StrCat("num_top_logprobs is ", proto.num_top_logprobs(),
                                                   ", the limit is ", kMaxTopLogprobs));
  }
  GenerationRequest request;
  request.prompt_ids.assign(proto.prompt_ids().begin(), proto.prompt_ids().end());
  request.max_new_tokens = proto.max_new_tokens();
  request.stop_ids.assign(proto.stop_ids().begin(), proto.stop_ids().end());
  request.sampling = {.temperature = proto.temperature(), .seed = proto.seed()};
  request.num_top_logprobs = proto.num_top_logprobs();
  return request;
}

internal::SequenceEvent ToProto(const OutputToken& output) {
  internal::SequenceEvent event;
  event.mutable_token()->set_id(output.token.id);
  event.mutable_token()->set_logprob(output.token.logprob);
  for (const IdAndLogprob& alternative : output.top) {
    internal::IdLogprob* top = event.mutable_token()->add_top();
    top->set_id(alternative.id);
    top->set_logprob(alternative.logprob);
  }
  return event;
}

}  // namespace

grpc::Status AttentionService::Generate(grpc::ServerContext* context,
                                        const internal::SequenceRequest* request,
                                        grpc::ServerWriter<internal::SequenceEvent>* writer) {
  return ToGrpcStatus(Stream(*context, *request, *writer));
}

absl::Status AttentionService::Stream(grpc::ServerContext& context,
                                      const internal::SequenceRequest& request,
                                      grpc::ServerWriter<internal::SequenceEvent>& writer) {
  ASSIGN_OR_RETURN(Engine* const engine, engine_());
  ASSIGN_OR_RETURN(GenerationRequest generation, FromProto(request));
  generation.deadline = DeadlineOf(context);
  ASSIGN_OR_RETURN(const std::shared_ptr<Outbox> outbox, engine->Submit(std::move(generation)));

  int output_tokens = 0;
  while (true) {
    if (context.IsCancelled()) {
      outbox->Cancel();
      return absl::CancelledError("the client has gone away");
    }
    if (const std::optional<OutputToken> output = outbox->Next(absl::Now() + kCancelPoll)) {
      ++output_tokens;
      if (!writer.Write(ToProto(*output))) outbox->Cancel();
      continue;
    }
    const std::optional<absl::StatusOr<EndReason>> end = outbox->end();
    if (!end.has_value()) continue;
    RETURN_IF_ERROR(end->status());
    internal::SequenceEvent event;
    event.mutable_end()->set_reason(**end == EndReason::kStop ? internal::END_REASON_STOP
                                                              : internal::END_REASON_LENGTH);
    event.mutable_end()->set_prompt_tokens(request.prompt_ids_size());
    event.mutable_end()->set_output_tokens(output_tokens);
    writer.Write(event);
    return absl::OkStatus();
  }
}

}  // namespace orrery
