#include "tools/bench/exchange/echo_shard.h"

#include <algorithm>
#include <optional>

#include "absl/time/clock.h"

namespace orrery {
namespace {

constexpr absl::Duration kAwaitTimeout = absl::Milliseconds(100);

}  // namespace

EchoLoop::EchoLoop(ShardExchange* exchange, const ExchangeOptions& options)
    : exchange_(exchange), result_bytes_(options.result_bytes), thread_([this] {
        while (!stopping_) {
          if (!exchange_->Await(absl::Now() + kAwaitTimeout)) continue;
          std::lock_guard lock(at_work_);
          ServeNext();
        }
      }) {
  exchange_->ServeOnArrival([this] { return ServeOne(); });
}

EchoLoop::~EchoLoop() {
  stopping_ = true;
  exchange_->ServeOnArrival(nullptr);
  thread_.join();
}

bool EchoLoop::ServeOne() {
  std::unique_lock lock(at_work_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  ServeNext();
  return true;
}

void EchoLoop::ServeNext() {
  const std::optional<InboundGroup> group = exchange_->Receive(absl::InfinitePast());
  if (!group.has_value()) return;
  for (const InboundFrame& frame : *group) {
    const size_t num_entries = frame.entries.size();
    states_.resize(std::max(states_.size(), num_entries), EntryState::kDone);
    results_.resize(std::max(results_.size(), num_entries * result_bytes_), std::byte{1});
    exchange_->Reply(
        frame, {.states = absl::MakeConstSpan(states_).first(num_entries), .results = results_});
  }
}

absl::StatusOr<std::unique_ptr<EchoShard>> EchoShard::Start(const EchoShardOptions& options) {
  std::unique_ptr<EchoShard> shard(new EchoShard());
  ASSIGN_OR_RETURN(shard->exchange_, MakeGrpcShardExchange({.exchange = options.exchange}));
  ASSIGN_OR_RETURN(shard->shm_,
                   ShmListener::Listen({.exchange = options.exchange, .name = options.address},
                                       shard->exchange_->endpoint()));
  ASSIGN_OR_RETURN(shard->server_,
                   Server::Start({.address = options.address}, {shard->exchange_->service()}));
  ASSIGN_OR_RETURN(shard->bare_server_,
                   Server::Start({.address = options.bare_address}, {&shard->bare_}));
  ASSIGN_OR_RETURN(shard->tls_server_,
                   Server::Start({.address = options.tls_address, .tls = options.tls},
                                 {shard->exchange_->service()}));
  shard->loop_ = std::make_unique<EchoLoop>(shard->exchange_.get(), options.exchange);
  shard->exchange_->SetAccepting(true);
  shard->shm_->SetAccepting(true);
  return shard;
}

}  // namespace orrery
