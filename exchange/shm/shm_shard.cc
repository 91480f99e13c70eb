#include "exchange/shm/shm_shard.h"

#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "exchange/frame.h"
#include "exchange/shard_endpoint.h"
#include "exchange/shm/shm_listener.h"

namespace orrery {
namespace {

class ShmShardExchangeImpl : public ShmShardExchange {
 public:
  ShmShardExchangeImpl(std::shared_ptr<ShardEndpoint> endpoint,
                       std::unique_ptr<ShmListener> listener)
      : endpoint_(std::move(endpoint)), listener_(std::move(listener)) {}
  ~ShmShardExchangeImpl() override { Close(); }

  void SetAccepting(bool accepting) override { listener_->SetAccepting(accepting); }
  bool Await(absl::Time deadline) override { return endpoint_->Await(deadline); }
  void WakeUp() override { endpoint_->WakeUp(); }
  std::optional<InboundGroup> Receive(absl::Time deadline) override {
    return endpoint_->Receive(deadline);
  }
  void Reply(const InboundFrame& frame, const FrameAnswer& answer) override {
    endpoint_->Reply(frame, answer);
  }
  void ServeOnArrival(std::function<bool()> serve) override {
    endpoint_->SetServe(std::move(serve));
  }
  InboxCounters counters() const override { return endpoint_->counters(); }
  int num_connections() const override { return endpoint_->num_connections(); }
  void Close() override { endpoint_->Close(); }

 private:
  const std::shared_ptr<ShardEndpoint> endpoint_;
  const std::unique_ptr<ShmListener> listener_;  // last: goes first
};

}  // namespace

absl::StatusOr<std::unique_ptr<ShmShardExchange>> MakeShmShardExchange(
    const ShmShardOptions& options) {
  RETURN_IF_ERROR(CheckExchangeOptions(options.exchange));
  if (options.max_streams <= 0 || options.hello_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_streams ", options.max_streams, " and hello_timeout ",
                     absl::FormatDuration(options.hello_timeout), " must be positive"));
  }
  auto endpoint = std::make_shared<ShardEndpoint>(options.exchange, options.max_streams);
  ASSIGN_OR_RETURN(std::unique_ptr<ShmListener> listener, ShmListener::Listen(options, endpoint));
  return std::make_unique<ShmShardExchangeImpl>(std::move(endpoint), std::move(listener));
}

}  // namespace orrery
