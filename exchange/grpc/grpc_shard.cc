#include "exchange/grpc/grpc_shard.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "exchange/frame.h"
#include "exchange/grpc/metadata.h"
#include "exchange/grpc/out_queue.h"
#include "exchange/grpc/sealed_frame.h"
#include "exchange/shard_endpoint.h"
#include "proto/expert.grpc.pb.h"
#include "rpc/status.h"

namespace orrery {
namespace {

using FrameReactor = grpc::ServerBidiReactor<internal::Frame, internal::Frame>;

// The way back to a rank. The endpoint may keep it longer than gRPC keeps the call, so it is an
// object of its own.
class ShardChannel : public Channel {
 public:
  ShardChannel(FrameReactor* reactor, grpc::CallbackServerContext* context,
               const GrpcShardOptions& options)
      : reactor_(reactor),
        context_(context),
        write_timeout_(options.write_timeout),
        queue_(options.exchange.max_queued_bytes) {}

  bool Send(std::string frame) override {
    internal::Frame sealed = Seal(std::move(frame));
    std::lock_guard lock(mutex_);
    if (absl::Now() - queue_.writing_since() >= write_timeout_) {
      Finish(absl::UnavailableError(
          absl::StrCat("the rank took no frame for ", absl::FormatDuration(write_timeout_))));
    }
    if (finishing_ || !queue_.Push(std::move(sealed))) return false;
    WriteNext();
    return true;
  }

  void Close(const absl::Status& why) override {
    std::lock_guard lock(mutex_);
    Finish(why);
  }

  void Read(internal::Frame* frame) {
    std::lock_guard lock(mutex_);
    if (!finishing_) reactor_->StartRead(frame);
  }

  void OnWriteDone(bool ok) {
    {
      std::lock_guard lock(mutex_);
      queue_.WriteDone();
      if (finishing_) {
        reactor_->Finish(ToGrpcStatus(final_status_));
        return;
      }
      if (ok) WriteNext();
    }
    if (!ok) Close(absl::CancelledError("the rank is gone"));
  }

 private:
  // The lock is held in both.
  void Finish(const absl::Status& why) {
    if (finishing_) return;
    finishing_ = true;
    final_status_ = why;
    queue_.Clear();
    if (queue_.writing()) {
      context_->TryCancel();  // it may hang; the reactor's Finish follows its OnWriteDone
    } else {
      reactor_->Finish(ToGrpcStatus(final_status_));
    }
  }
  void WriteNext() {
    if (const internal::Frame* frame = queue_.StartNext()) reactor_->StartWrite(frame);
  }

  std::mutex mutex_;
  // Not to be touched once Finish was called, which finishing_ sees to: gRPC deletes them soon
  // after.
  FrameReactor* const reactor_;
  grpc::CallbackServerContext* const context_;
  const absl::Duration write_timeout_;
  OutQueue queue_;
  bool finishing_ = false;
  absl::Status final_status_;
};

absl::StatusOr<Lane> LaneOf(const grpc::CallbackServerContext& context) {
  const auto found = context.client_metadata().find(kLaneMetadata);
  if (found != context.client_metadata().end()) {
    const std::string_view name(found->second.data(), found->second.size());
    for (Lane lane : {Lane::kDecode, Lane::kBulk}) {
      if (name == LaneName(lane)) return lane;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("metadata \"", kLaneMetadata, "\" must be \"decode\" or \"bulk\""));
}

absl::Status CheckMeantFor(const std::string& name, const grpc::CallbackServerContext& context) {
  const auto found = context.client_metadata().find(kShardMetadata);
  if (name.empty() || found == context.client_metadata().end() || found->second == name) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat("this is ", name, ", not ",
                                          std::string(found->second.data(), found->second.size())));
}

std::string RankNameOf(const grpc::CallbackServerContext& context) {
  const auto found = context.client_metadata().find(kRankMetadata);
  if (found == context.client_metadata().end()) return "a rank without a name";
  return std::string(found->second.data(), found->second.size());
}

// One call of Exchange.
class ShardStream : public FrameReactor {
 public:
  ShardStream(std::shared_ptr<ShardEndpoint> endpoint, const GrpcShardOptions& options,
              grpc::CallbackServerContext* context)
      : endpoint_(std::move(endpoint)),
        layer_(options.layer),
        rank_name_(RankNameOf(*context)),
        channel_(std::make_shared<ShardChannel>(this, context, options)) {}

  // Either accepts the call or finishes it with the reason.
  void Begin(const absl::Status& accepting, grpc::CallbackServerContext* context) {
    absl::Status status = accepting;
    const absl::StatusOr<Lane> lane = LaneOf(*context);
    status.Update(lane.status());
    if (status.ok()) {
      absl::StatusOr<std::shared_ptr<ChannelSink>> sink =
          layer_ == nullptr ? endpoint_->Connect(*lane, channel_)
                            : layer_->Connect(*endpoint_, *lane, channel_);
      status = sink.status();
      if (sink.ok()) sink_ = *std::move(sink);
    }
    if (!status.ok()) {
      channel_->Close(status);
      return;
    }
    context->AddInitialMetadata(kAcceptedMetadata, kAnswersKnocks);
    if (layer_ != nullptr) context->AddInitialMetadata(kLayerMetadata, layer_->terms());
    StartSendInitialMetadata();
    channel_->Read(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      channel_->Close(absl::CancelledError("the rank ended the stream"));
      return;
    }
    absl::StatusOr<std::string> frame = unsealer_.Unseal(incoming_);
    if (frame.ok() && IsKnock(*frame)) {
      if (!channel_->Send(MakeKnock())) {
        channel_->Close(absl::ResourceExhaustedError("the rank knocks and does not read"));
      }
      channel_->Read(&incoming_);
      return;
    }
    const absl::Status status = frame.ok() ? sink_->OnFrame(*std::move(frame)) : frame.status();
    if (status.ok()) {
      const std::shared_ptr<ShardEndpoint> endpoint = endpoint_;  // the stream may end meanwhile
      channel_->Read(&incoming_);
      endpoint->Arrived();
    } else {
      LogWarning("exchange: ", rank_name_, ": ", status.ToString());
      channel_->Close(status);
    }
  }
  void OnWriteDone(bool ok) override { channel_->OnWriteDone(ok); }
  void OnCancel() override { channel_->Close(absl::CancelledError("the rank is gone")); }
  void OnDone() override {
    if (sink_ != nullptr) sink_->OnClosed(absl::CancelledError("the stream has ended"));
    delete this;
  }

 private:
  const std::shared_ptr<ShardEndpoint> endpoint_;  // before the sink, which must not outlive it
  ChannelLayer* const layer_;
  const std::string rank_name_;
  const std::shared_ptr<ShardChannel> channel_;
  std::shared_ptr<ChannelSink> sink_;  // null if refused
  internal::Frame incoming_;
  Unsealer unsealer_;
};

class GrpcShardExchangeImpl : public GrpcShardExchange {
 public:
  explicit GrpcShardExchangeImpl(const GrpcShardOptions& options)
      : service_(std::make_shared<ShardEndpoint>(options.exchange, options.max_streams), options) {}
  ~GrpcShardExchangeImpl() override { Close(); }

  grpc::Service* service() override { return &service_; }
  void SetAccepting(bool accepting) override { service_.accepting = accepting; }
  std::shared_ptr<ShardEndpoint> endpoint() override { return service_.endpoint; }
  bool Await(absl::Time deadline) override { return service_.endpoint->Await(deadline); }
  void WakeUp() override { service_.endpoint->WakeUp(); }
  std::optional<InboundGroup> Receive(absl::Time deadline) override {
    return service_.endpoint->Receive(deadline);
  }
  void Reply(const InboundFrame& frame, const FrameAnswer& answer) override {
    service_.endpoint->Reply(frame, answer);
  }
  void ServeOnArrival(std::function<bool()> serve) override {
    service_.endpoint->SetServe(std::move(serve));
  }
  InboxCounters counters() const override { return service_.endpoint->counters(); }
  int num_connections() const override { return service_.endpoint->num_connections(); }
  void Close() override { service_.endpoint->Close(); }

 private:
  struct ExpertService : internal::Expert::CallbackService {
    ExpertService(std::shared_ptr<ShardEndpoint> endpoint, const GrpcShardOptions& options)
        : endpoint(std::move(endpoint)), options(options) {}

    FrameReactor* Exchange(grpc::CallbackServerContext* context) override {
      auto* stream = new ShardStream(endpoint, options, context);  // deletes itself
      absl::Status status = CheckMeantFor(options.name, *context);
      if (!accepting) status.Update(absl::UnavailableError("the shard is not ready yet"));
      stream->Begin(status, context);
      return stream;
    }

    const std::shared_ptr<ShardEndpoint> endpoint;
    const GrpcShardOptions options;
    std::atomic<bool> accepting = false;
  };

  ExpertService service_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcShardExchange>> MakeGrpcShardExchange(
    const GrpcShardOptions& options) {
  RETURN_IF_ERROR(CheckExchangeOptions(options.exchange));
  if (options.write_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "write_timeout is ", absl::FormatDuration(options.write_timeout), ", must be positive"));
  }
  return std::make_unique<GrpcShardExchangeImpl>(options);
}

}  // namespace orrery
