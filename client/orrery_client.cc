#include "client/orrery_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {
namespace {

// Everything but Generate is answered from memory.
constexpr absl::Duration kUnaryTimeout = absl::Seconds(10);

template <typename Request, typename Response>
absl::StatusOr<Response> Call(v1::Orrery::Stub& stub,
                              grpc::Status (v1::Orrery::Stub::*method)(grpc::ClientContext*,
                                                                       const Request&, Response*),
                              const Request& request) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kUnaryTimeout);
  Response response;
  RETURN_IF_ERROR(FromGrpcStatus((stub.*method)(&context, request, &response)));
  return response;
}

absl::Status CheckText(const std::string& what, const std::string& text) {
  const int64_t offset = FindInvalidUtf8(text);
  if (offset < 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the ", what, " is not UTF-8 at byte ", offset, " of ", text.size()));
}

absl::Status CheckMessages(const v1::ChatMessages& messages) {
  for (int i = 0; i < messages.message_size(); ++i) {
    RETURN_IF_ERROR(CheckText(absl::StrCat("text of message ", i), messages.message(i).content()));
  }
  return absl::OkStatus();
}

absl::Status CheckTexts(const v1::GenerateRequest& request) {
  RETURN_IF_ERROR(CheckText("prompt", request.text()));
  RETURN_IF_ERROR(CheckMessages(request.messages()));
  for (int i = 0; i < request.stop_size(); ++i) {
    RETURN_IF_ERROR(CheckText(absl::StrCat("stop string ", i), request.stop(i)));
  }
  return CheckText("tenant", request.tenant());
}

// Adds one token to its choice.
void Collect(const v1::Delta& delta, Choice& choice) {
  choice.ids.push_back(delta.id());
  if (delta.has_logprob()) choice.logprobs.push_back(delta.logprob());
  if (delta.top_size() > 0) choice.top.emplace_back(delta.top().begin(), delta.top().end());
  (delta.kind() == v1::DELTA_KIND_REASONING ? choice.reasoning : choice.content) += delta.text();
}

// Puts a stream together.
class Collector {
 public:
  explicit Collector(int num_choices) : num_choices_(std::max(1, num_choices)) {}

  absl::Status Add(const v1::GenerateResponse& response) {
    switch (response.event_case()) {
      case v1::GenerateResponse::kStarted:
        answer_.started = response.started();
        return absl::OkStatus();
      case v1::GenerateResponse::kDelta: {
        ASSIGN_OR_RETURN(Choice* const choice, Find(response.delta().choice()));
        Collect(response.delta(), *choice);
        return absl::OkStatus();
      }
      case v1::GenerateResponse::kFinished: {
        ASSIGN_OR_RETURN(Choice* const choice, Find(response.finished().choice()));
        choice->finished = response.finished();
        ++num_finished_;
        return absl::OkStatus();
      }
      default:
        return absl::OkStatus();  // of a later version
    }
  }

  absl::StatusOr<Answer> Take() {
    if (num_finished_ == num_choices_) return std::move(answer_);
    return absl::InternalError(absl::StrCat("the router ended the stream after ", num_finished_,
                                            " of ", num_choices_, " choices"));
  }

 private:
  // Grows with what comes, not with what a request asks for, which may be nonsense.
  absl::StatusOr<Choice*> Find(int index) {
    if (index < 0 || index >= num_choices_) {
      return absl::InternalError(
          absl::StrCat("the router sent choice ", index, " of ", num_choices_));
    }
    if (index >= answer_.num_choices()) answer_.others.resize(index);
    return index == 0 ? static_cast<Choice*>(&answer_) : &answer_.others[index - 1];
  }

  const int num_choices_;
  Answer answer_;
  int num_finished_ = 0;
};

}  // namespace

absl::StatusOr<OrreryClient> OrreryClient::Connect(const std::string& address, const TlsFiles& tls,
                                                   absl::Duration timeout) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, MakeChannel(address, tls));
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) break;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) {
      return absl::UnavailableError(absl::StrCat("no router answers at ", address));
    }
    if (!channel->WaitForStateChange(state, absl::ToChronoTime(deadline))) {
      return absl::UnavailableError(absl::StrCat("no router answers at ", address, " within ",
                                                 absl::FormatDuration(timeout)));
    }
  }
  return OrreryClient(address, v1::Orrery::NewStub(channel));
}

OrreryClient::OrreryClient(std::string address, std::unique_ptr<v1::Orrery::Stub> stub)
    : address_(std::move(address)), stub_(std::move(stub)) {}

absl::StatusOr<Answer> OrreryClient::Generate(const v1::GenerateRequest& request,
                                              absl::Duration timeout, const OnDelta& on_delta) {
  RETURN_IF_ERROR(CheckTexts(request));
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + timeout);
  const auto reader = stub_->Generate(&context, request);
  Collector collector(request.num_choices());
  absl::Status collected;
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    collected.Update(collector.Add(response));
    const bool goes_on =
        collected.ok() && (!response.has_delta() || !on_delta || on_delta(response.delta()));
    if (!goes_on) context.TryCancel();
  }
  const absl::Status status = FromGrpcStatus(reader->Finish());
  RETURN_IF_ERROR(collected);
  RETURN_IF_ERROR(status);
  return collector.Take();
}

absl::StatusOr<std::vector<int32_t>> OrreryClient::Tokenize(const v1::TokenizeRequest& request) {
  RETURN_IF_ERROR(CheckText("text", request.text()));
  RETURN_IF_ERROR(CheckMessages(request.messages()));
  ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                   Call(*stub_, &v1::Orrery::Stub::Tokenize, request));
  return std::vector<int32_t>(response.id().begin(), response.id().end());
}

absl::StatusOr<std::string> OrreryClient::Detokenize(absl::Span<const int32_t> ids) {
  v1::DetokenizeRequest request;
  request.mutable_id()->Assign(ids.begin(), ids.end());
  ASSIGN_OR_RETURN(v1::DetokenizeResponse response,
                   Call(*stub_, &v1::Orrery::Stub::Detokenize, request));
  return std::move(*response.mutable_text());
}

absl::StatusOr<v1::ListModelsResponse> OrreryClient::ListModels() {
  return Call(*stub_, &v1::Orrery::Stub::ListModels, v1::ListModelsRequest());
}

absl::StatusOr<v1::ClusterStatusResponse> OrreryClient::ClusterStatus() {
  return Call(*stub_, &v1::Orrery::Stub::ClusterStatus, v1::ClusterStatusRequest());
}

int64_t FindInvalidUtf8(const std::string& text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = byte(i);
    const int length = lead < 0x80                    ? 1
                       : lead >= 0xc2 && lead <= 0xdf ? 2
                       : lead >= 0xe0 && lead <= 0xef ? 3
                       : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                      : 0;
    if (length == 0 || i + length > text.size()) return static_cast<int64_t>(i);
    for (int k = 1; k < length; ++k) {
      if ((byte(i + k) & 0xc0) != 0x80) return static_cast<int64_t>(i);
    }
    // Overlong forms, surrogates, and beyond U+10FFFF (Unicode 15, table 3-7).
    const unsigned char second = length > 1 ? byte(i + 1) : 0;
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
        (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) {
      return static_cast<int64_t>(i);
    }
    i += length;
  }
  return -1;
}

}  // namespace orrery
