#include "services/router/router_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "rpc/deadline.h"
#include "rpc/status.h"
#include "services/router/cluster_status.h"
#include "services/router/prompt.h"
#include "services/router/sequence_request.h"

namespace orrery {
namespace {

absl::Status Unreadable() {
  return absl::InvalidArgumentError(
      "the request cannot be read: a text in it is not UTF-8, or it is not this message");
}

// A unary call whose request is read here; `handle` makes the response from the request.
template <typename Request, typename Response, typename Handle>
grpc::Status Unary(grpc::ServerUnaryStreamer<Request, Response>* stream, const Handle& handle) {
  Request request;
  if (!stream->Read(&request)) return ToGrpcStatus(Unreadable());
  absl::StatusOr<Response> response = handle(request);
  if (!response.ok()) return ToGrpcStatus(response.status());
  stream->Write(*response);
  return grpc::Status::OK;
}

}  // namespace

RouterService::RouterService(Options options, const ServedModel* model, RouterState* state,
                             const RankChannels& ranks)
    : options_(std::move(options)), model_(model), state_(state), life_(DrawSeed()) {
  for (const auto& [member, channel] : ranks) {
    ranks_[member] = internal::Attention::NewStub(channel);
  }
}

grpc::Status RouterService::StreamedGenerate(
    grpc::ServerContext* context,
    grpc::ServerSplitStreamer<v1::GenerateRequest, v1::GenerateResponse>* stream) {
  v1::GenerateRequest request;
  if (!stream->Read(&request)) return ToGrpcStatus(Unreadable());
  return ToGrpcStatus(Generate(*context, request, *stream));
}

absl::Status RouterService::Generate(
    grpc::ServerContext& context, const v1::GenerateRequest& request,
    grpc::ServerSplitStreamer<v1::GenerateRequest, v1::GenerateResponse>& stream) {
  ASSIGN_OR_RETURN(const Prompt prompt, BuildPrompt(*model_, request));
  const int64_t number = ++num_requests_;
  const std::string request_id =
      absl::StrCat(options_.self.name, "-", absl::Hex(life_ >> 32), "-", number);
  GenerateCall call(
      {.number = number,
       .deadline = std::min(DeadlineOf(context), absl::Now() + options_.max_request_time),
       .wants_logprobs = request.logprobs(),
       .starts_in_thinking = prompt.starts_in_thinking},
      &context, model_, state_, &ranks_,
      [&stream](const v1::GenerateResponse& response) { return stream.Write(response); });
  const absl::Status status = call.Run(MakeSequenceRequest(
      *model_, request, prompt,
      {.request_id = request_id, .share_prefix_cache = options_.share_prefix_cache}));
  if (!status.ok()) LogWarning("request ", request_id, ": ", status.ToString());
  return status;
}

grpc::Status RouterService::StreamedTokenize(
    grpc::ServerContext*,
    grpc::ServerUnaryStreamer<v1::TokenizeRequest, v1::TokenizeResponse>* stream) {
  return Unary(stream,
               [&](const v1::TokenizeRequest& request) -> absl::StatusOr<v1::TokenizeResponse> {
                 ASSIGN_OR_RETURN(const std::vector<int32_t> ids, BuildTokens(*model_, request));
                 v1::TokenizeResponse response;
                 response.mutable_id()->Assign(ids.begin(), ids.end());
                 return response;
               });
}

grpc::Status RouterService::StreamedDetokenize(
    grpc::ServerContext*,
    grpc::ServerUnaryStreamer<v1::DetokenizeRequest, v1::DetokenizeResponse>* stream) {
  return Unary(stream,
               [&](const v1::DetokenizeRequest& request) -> absl::StatusOr<v1::DetokenizeResponse> {
                 RETURN_IF_ERROR(CheckModelName(*model_, request.model()));
                 const absl::Span<const int32_t> ids(request.id().data(), request.id_size());
                 RETURN_IF_ERROR(CheckIds(*model_, ids));
                 v1::DetokenizeResponse response;
                 response.set_text(model_->tokenizer.Decode(ids, SpecialTokens::kKeep));
                 return response;
               });
}

grpc::Status RouterService::StreamedListModels(
    grpc::ServerContext*,
    grpc::ServerUnaryStreamer<v1::ListModelsRequest, v1::ListModelsResponse>* stream) {
  return Unary(stream, [&](const v1::ListModelsRequest&) -> absl::StatusOr<v1::ListModelsResponse> {
    v1::ListModelsResponse response;
    v1::ModelInfo& info = *response.add_model();
    info.set_name(model_->name);
    info.set_architecture(model_->config.model_type);
    info.set_max_context_tokens(model_->max_context_tokens);
    info.set_vocab_size(model_->config.vocab_size);
    return response;
  });
}

grpc::Status RouterService::StreamedClusterStatus(
    grpc::ServerContext*,
    grpc::ServerUnaryStreamer<v1::ClusterStatusRequest, v1::ClusterStatusResponse>* stream) {
  return Unary(
      stream, [&](const v1::ClusterStatusRequest&) -> absl::StatusOr<v1::ClusterStatusResponse> {
        absl::MutexLock lock(&state_->mutex);
        return MakeClusterStatus(state_->core, options_.self,
                                 DescribeRouter(state_->core, options_.self, model_->fingerprint));
      });
}

}  // namespace orrery
