#include "client/orrery_client.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/collector.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {
namespace {

// Everything but Generate is answered from memory.
constexpr absl::Duration kUnaryTimeout = absl::Seconds(10);
// With several routers, how long one that is not decided yet may keep us from looking at the others.
constexpr absl::Duration kLookTime = absl::Milliseconds(20);

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

// Whether the stream broke, or its router cannot go on: another one may. An answer that has begun is not
// given up because one router is full, or cannot read what another one signed.
bool IsWorthAnotherTry(const absl::Status& status, bool has_started) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:  // not by us: the router stops
      return true;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
      return has_started;
    default:
      return false;
  }
}

uint64_t DrawKey() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

// The routers, which of them answers, and what calls have in common.
class OrreryClient::Routers {
 public:
  struct Router {
    std::string address;
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<v1::Orrery::Stub> stub;
  };

  explicit Routers(const RetryOptions& retry)
      : retry_(retry), budget_(retry.budget), key_(retry.seed != 0 ? retry.seed : DrawKey()) {}

  absl::Status Open(const std::vector<std::string>& addresses, const TlsFiles& tls) {
    if (addresses.empty()) return absl::InvalidArgumentError("no address of a router is given");
    for (const std::string& address : addresses) {
      ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, MakeChannel(address, tls));
      auto stub = v1::Orrery::NewStub(channel);
      routers_.push_back({address, std::move(channel), std::move(stub)});
    }
    return absl::OkStatus();
  }

  absl::Status AwaitOne(absl::Duration timeout) {
    const absl::Time deadline = absl::Now() + timeout;
    while (true) {
      const Router* undecided = nullptr;
      grpc_connectivity_state seen = GRPC_CHANNEL_IDLE;  // of that one
      for (size_t i = 0; i < routers_.size(); ++i) {
        const grpc_connectivity_state state =
            routers_[i].channel->GetState(/*try_to_connect=*/true);
        if (state == GRPC_CHANNEL_READY) {
          current_ = i;
          return absl::OkStatus();
        }
        if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || undecided != nullptr) continue;
        undecided = &routers_[i];
        seen = state;
      }
      if (undecided == nullptr) {
        return absl::UnavailableError(absl::StrCat("no router answers at ", Addresses()));
      }
      if (absl::Now() >= deadline) {
        return absl::UnavailableError(absl::StrCat("no router answers at ", Addresses(), " within ",
                                                   absl::FormatDuration(timeout)));
      }
      const absl::Time until =
          routers_.size() == 1 ? deadline : std::min(deadline, absl::Now() + kLookTime);
      undecided->channel->WaitForStateChange(seen, absl::ToChronoTime(until));
    }
  }

  size_t current() const { return current_; }
  const Router& router(size_t index) const { return routers_[index]; }
  int num_routers() const { return static_cast<int>(routers_.size()); }
  // Away from a router that failed, unless another call has gone already.
  void Leave(size_t index) {
    current_.compare_exchange_strong(index, (index + 1) % routers_.size());
  }

  // A unary call, at each router once until one answers.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::Orrery::Stub::*method)(grpc::ClientContext*,
                                                                         const Request&, Response*),
                                const Request& request) {
    absl::Status status;
    for (int tries = 0; tries < num_routers(); ++tries) {
      const size_t index = current_;
      grpc::ClientContext context;
      SetDeadline(context, absl::Now() + kUnaryTimeout);
      Response response;
      status = FromGrpcStatus((*routers_[index].stub.*method)(&context, request, &response));
      if (status.ok()) return response;
      if (!absl::IsUnavailable(status)) break;
      Leave(index);
    }
    return status;
  }

  absl::Time Now() const { return retry_.clock != nullptr ? retry_.clock->Now() : absl::Now(); }
  // Before the next attempt of a call after so many failures in a row; false if there shall be none.
  bool Pause(int num_failures, uint64_t call, absl::Time deadline) {
    const absl::Duration delay = BackoffDelay(retry_.backoff, num_failures, key_ + call);
    if (Now() + delay >= deadline || !budget_.Take()) return false;
    retry_.pause ? retry_.pause(delay) : absl::SleepFor(delay);
    return true;
  }
  const RetryOptions& retry() const { return retry_; }
  RetryBudget& budget() { return budget_; }
  uint64_t NextCall() { return num_calls_++; }

 private:
  std::string Addresses() const {
    return absl::StrJoin(routers_, ", ", [](std::string* out, const Router& router) {
      absl::StrAppend(out, router.address);
    });
  }

  const RetryOptions retry_;
  std::vector<Router> routers_;
  std::atomic<size_t> current_{0};
  RetryBudget budget_;
  const uint64_t key_;
  std::atomic<uint64_t> num_calls_{0};
};

namespace {

// One stream, as far as it goes. `is_unwanted` is set if the callback wants no more of it.
absl::Status ReadStream(v1::Orrery::Stub& stub, const v1::GenerateRequest& request,
                        absl::Duration timeout, const OrreryClient::OnDelta& on_delta,
                        Collector& collector, bool& is_unwanted) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + timeout);
  const auto reader = stub.Generate(&context, request);
  absl::Status collected;
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (!collected.ok() || is_unwanted) continue;
    collected = collector.Add(response);
    is_unwanted = collected.ok() && response.has_delta() && on_delta && !on_delta(response.delta());
    if (!collected.ok() || is_unwanted) context.TryCancel();
  }
  const absl::Status status = FromGrpcStatus(reader->Finish(), context);
  return collected.ok() ? status : collected;
}

}  // namespace

absl::StatusOr<OrreryClient> OrreryClient::Connect(const std::vector<std::string>& addresses,
                                                   const TlsFiles& tls, absl::Duration timeout,
                                                   const RetryOptions& retry) {
  auto routers = std::make_unique<Routers>(retry);
  RETURN_IF_ERROR(routers->Open(addresses, tls));
  RETURN_IF_ERROR(routers->AwaitOne(timeout));
  return OrreryClient(std::move(routers));
}

OrreryClient::OrreryClient(std::unique_ptr<Routers> routers) : routers_(std::move(routers)) {}
OrreryClient::OrreryClient(OrreryClient&&) = default;
OrreryClient& OrreryClient::operator=(OrreryClient&&) = default;
OrreryClient::~OrreryClient() = default;

const std::string& OrreryClient::address() const {
  return routers_->router(routers_->current()).address;
}

absl::StatusOr<Answer> OrreryClient::Generate(const v1::GenerateRequest& request,
                                              absl::Duration timeout, const OnDelta& on_delta) {
  RETURN_IF_ERROR(CheckTexts(request));
  const absl::Time deadline = routers_->Now() + timeout;
  const uint64_t call = routers_->NextCall();
  Collector collector(request.num_choices());
  v1::GenerateRequest attempt = request;
  int num_failures = 0;  // since something was received
  while (true) {
    const size_t index = routers_->current();
    const int64_t num_before = collector.num_events();
    bool is_unwanted = false;
    const absl::Status status =
        ReadStream(*routers_->router(index).stub, attempt, deadline - routers_->Now(), on_delta,
                   collector, is_unwanted);
    // A stream that broke behind the last message has broken nothing.
    if (collector.is_complete() && !is_unwanted &&
        (status.ok() || IsWorthAnotherTry(status, /*has_started=*/false))) {
      routers_->budget().PutBack();
      return collector.Take();
    }
    if (status.ok()) return collector.Take();  // says what is missing
    if (is_unwanted || !IsWorthAnotherTry(status, collector.can_resume())) return status;
    num_failures = collector.num_events() > num_before ? 1 : num_failures + 1;
    routers_->Leave(index);
    if (!collector.can_resume()) {
      if (num_failures >= routers_->num_routers()) return status;
      continue;
    }
    if (num_failures >= routers_->retry().max_attempts ||
        !routers_->Pause(num_failures, call, deadline)) {
      return status;
    }
    collector.FillResume(*attempt.mutable_resume());
  }
}

absl::StatusOr<std::vector<int32_t>> OrreryClient::Tokenize(const v1::TokenizeRequest& request) {
  RETURN_IF_ERROR(CheckText("text", request.text()));
  RETURN_IF_ERROR(CheckMessages(request.messages()));
  ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                   routers_->Call(&v1::Orrery::Stub::Tokenize, request));
  return std::vector<int32_t>(response.id().begin(), response.id().end());
}

absl::StatusOr<std::string> OrreryClient::Detokenize(absl::Span<const int32_t> ids) {
  v1::DetokenizeRequest request;
  request.mutable_id()->Assign(ids.begin(), ids.end());
  ASSIGN_OR_RETURN(v1::DetokenizeResponse response,
                   routers_->Call(&v1::Orrery::Stub::Detokenize, request));
  return std::move(*response.mutable_text());
}

absl::StatusOr<v1::ListModelsResponse> OrreryClient::ListModels() {
  return routers_->Call(&v1::Orrery::Stub::ListModels, v1::ListModelsRequest());
}

absl::StatusOr<v1::ClusterStatusResponse> OrreryClient::ClusterStatus() {
  return routers_->Call(&v1::Orrery::Stub::ClusterStatus, v1::ClusterStatusRequest());
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
