#include "services/router/router_service.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/refusal_times.h"
#include "rpc/deadline.h"
#include "rpc/status.h"
#include "services/router/cluster_status.h"
#include "services/router/prompt.h"
#include "services/router/raw_message.h"
#include "services/router/received.h"
#include "services/router/sequence_request.h"

namespace orrery {
namespace {

// For who has no room for an answer of the tokenizer.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

absl::StatusOr<v1::TokenizeResponse> Answer(const ServedModel& model,
                                            const v1::TokenizeRequest& request) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, BuildTokens(model, request));
  v1::TokenizeResponse response;
  response.mutable_id()->Assign(ids.begin(), ids.end());
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Answer(const ServedModel& model,
                                              const v1::DetokenizeRequest& request) {
  RETURN_IF_ERROR(CheckModelName(model, request.model()));
  const absl::Span<const int32_t> ids(request.id().data(), request.id_size());
  RETURN_IF_ERROR(CheckIds(model, ids));
  v1::DetokenizeResponse response;
  response.set_text(model.tokenizer.Decode(ids, SpecialTokens::kKeep));
  return response;
}

absl::StatusOr<v1::ListModelsResponse> Answer(const ServedModel& model,
                                              const v1::ListModelsRequest&) {
  v1::ListModelsResponse response;
  v1::ModelInfo& info = *response.add_model();
  info.set_name(model.name);
  info.set_architecture(model.config.model_type);
  info.set_max_context_tokens(model.max_context_tokens);
  info.set_vocab_size(model.config.vocab_size);
  return response;
}

// Reads the request; `answer` makes the response from it.
template <typename Request, typename MakeAnswer>
absl::Status Respond(const grpc::ByteBuffer* raw, grpc::ByteBuffer* response,
                     const MakeAnswer& answer) {
  ASSIGN_OR_RETURN(const Request request, TakeMessage<Request>(raw));
  ASSIGN_OR_RETURN(const auto message, answer(request));
  *response = ToBytes(message);
  return absl::OkStatus();
}

// A unary call whose response counts among those that nobody has read yet, until it is over; which ends it when
// the client takes too long.
class CountedReactor : public grpc::ServerUnaryReactor {
 public:
  struct Bounds {
    size_t num_bytes = 0;
    absl::Duration time;
  };
  CountedReactor(grpc::CallbackServerContext* context, std::atomic<size_t>* num_bytes,
                 const Bounds& most)
      : all_bytes_(num_bytes), most_(most), open_(std::make_shared<Open>()) {
    open_->context = context;
  }

  // Empties it if there is no room.
  absl::Status Count(grpc::ByteBuffer* response) {
    own_bytes_ = response->Length();
    const size_t others = all_bytes_->fetch_add(own_bytes_);
    if (others + own_bytes_ <= most_.num_bytes) return absl::OkStatus();
    const size_t num_bytes = own_bytes_;
    GiveBack();
    response->Clear();
    return WithRetryAfter(
        absl::ResourceExhaustedError(absl::StrCat(
            "clients have not read ", others, " bytes of such answers yet, this one has ",
            num_bytes, ", the limit is ", most_.num_bytes, "; try again later")),
        kRetryAfter);
  }
  // Instead of Finish, behind which this may be gone.
  void FinishInTime(const grpc::Status& status) {
    unread_.Set(absl::ToChronoTime(absl::Now() + most_.time), [open = open_](bool has_passed) {
      const std::lock_guard lock(open->mutex);
      if (has_passed && open->context != nullptr) open->context->TryCancel();
    });
    Finish(status);
  }
  void OnDone() override {
    {
      const std::lock_guard lock(open_->mutex);
      open_->context = nullptr;
    }
    GiveBack();
    delete this;
  }

 private:
  // What the alarm looks at: it may pass while the call ends.
  struct Open {
    std::mutex mutex;
    grpc::CallbackServerContext* context = nullptr;  // null once it is over
  };

  void GiveBack() { all_bytes_->fetch_sub(std::exchange(own_bytes_, 0)); }

  std::atomic<size_t>* const all_bytes_;
  const Bounds most_;
  const std::shared_ptr<Open> open_;
  size_t own_bytes_ = 0;
  grpc::Alarm unread_;
};

// A unary call of the tokenizer, by a worker.
template <typename Request>
grpc::ServerUnaryReactor* RespondLater(CountedReactor* reactor, WorkQueue& workers,
                                       const ServedModel& model,
                                       grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* raw, grpc::ByteBuffer* response) {
  const auto finish = [=](const absl::Status& status) {
    AddTrailers(status, *context);
    reactor->FinishInTime(ToGrpcStatus(status));
  };
  const absl::Status queued = workers.Push(raw->Length(), [=, &model] {
    if (context->IsCancelled()) return finish(absl::CancelledError());
    const auto answer = [&](const Request& request) { return Answer(model, request); };
    absl::Status status = Respond<Request>(raw, response, answer);
    if (status.ok()) status = reactor->Count(response);
    finish(status);
  });
  if (!queued.ok()) finish(queued);
  return reactor;
}

// A unary call that takes no time.
template <typename Request, typename MakeAnswer>
grpc::ServerUnaryReactor* RespondNow(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* raw, grpc::ByteBuffer* response,
                                     const MakeAnswer& answer) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(Respond<Request>(raw, response, answer)));
  return reactor;
}

}  // namespace

RouterService::RouterService(Options options, const ServedModel* model, RouterState* state,
                             const RankChannels& ranks)
    : options_(std::move(options)),
      model_(model),
      state_(state),
      ranks_(ranks),
      life_(DrawSeed()),
      workers_(options_.workers) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RouterService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  const std::shared_ptr<GenerateCall> call =
      GenerateCall::Accept(context, {.model = model_,
                                     .state = state_,
                                     .ranks = &ranks_,
                                     .calls = &calls_,
                                     .tokens = &options_.tokens,
                                     .metrics = &metrics_});
  const absl::Time deadline =
      std::min(DeadlineOf(*context), absl::Now() + options_.max_request_time);
  const absl::Status queued = workers_.Push(request->Length(), [=, this] {
    const absl::Status begun = Begin(*call, request, deadline);
    if (!begun.ok()) call->Refuse(begun);
  });
  if (!queued.ok()) call->Refuse(queued);
  return call.get();
}

absl::Status RouterService::Begin(GenerateCall& call, const grpc::ByteBuffer* raw,
                                  absl::Time deadline) {
  // It may have waited; its deadline is a cancellation as well.
  if (call.is_cancelled()) return absl::CancelledError("the client cancelled the request");
  ASSIGN_OR_RETURN(v1::GenerateRequest request, TakeMessage<v1::GenerateRequest>(raw));
  std::optional<ResumePoint> point;
  if (request.has_resume()) {
    ASSIGN_OR_RETURN(point, options_.tokens.Read(request.resume().token()));
    if (!request.has_seed()) request.set_seed(point->seed);
    if (request.max_new_tokens() == 0) request.set_max_new_tokens(point->max_new_tokens);
  }
  ASSIGN_OR_RETURN(const Prompt prompt, BuildPrompt(*model_, request));
  const int64_t number = ++num_requests_;
  GenerateCall::Options options{.number = number,
                                .deadline = deadline,
                                .max_stall = options_.max_stall,
                                .answer = {.wants_logprobs = request.logprobs(),
                                           .starts_in_thinking = prompt.starts_in_thinking}};
  std::string request_id =
      absl::StrCat(options_.self.name, "-", absl::Hex(life_ >> 32), "-", number);
  if (point.has_value()) request_id = point->request_id;
  internal::SequenceRequest sequence = MakeSequenceRequest(
      *model_, request, prompt,
      {.request_id = request_id, .share_prefix_cache = options_.share_prefix_cache});
  if (point.has_value()) {
    RETURN_IF_ERROR(options_.tokens.CheckRequest(*point, sequence));
    ASSIGN_OR_RETURN(options.answer.received, TakeReceived(*model_, request.resume(), sequence));
    options.resume_token = request.resume().token();
    options.attempt = request.resume().attempt();
    options.began_with = std::move(point->model);
  }
  call.Start(std::move(sequence), options);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* RouterService::Tokenize(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return RespondLater<v1::TokenizeRequest>(
      new CountedReactor(context, &num_reply_bytes_,  // deletes itself
                         {.num_bytes = options_.max_reply_bytes, .time = options_.max_stall}),
      workers_, *model_, context, request, response);
}

grpc::ServerUnaryReactor* RouterService::Detokenize(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  return RespondLater<v1::DetokenizeRequest>(
      new CountedReactor(context, &num_reply_bytes_,  // deletes itself
                         {.num_bytes = options_.max_reply_bytes, .time = options_.max_stall}),
      workers_, *model_, context, request, response);
}

grpc::ServerUnaryReactor* RouterService::ListModels(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  return RespondNow<v1::ListModelsRequest>(
      context, request, response,
      [this](const v1::ListModelsRequest& list) { return Answer(*model_, list); });
}

grpc::ServerUnaryReactor* RouterService::ClusterStatus(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return RespondNow<v1::ClusterStatusRequest>(
      context, request, response, [this](const v1::ClusterStatusRequest&) {
        return state_->With([this](RouterCore& core) -> absl::StatusOr<v1::ClusterStatusResponse> {
          return MakeClusterStatus(core, options_.self,
                                   DescribeRouter(core, options_.self, model_->fingerprint));
        });
      });
}

}  // namespace orrery
