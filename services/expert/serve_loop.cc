#include "services/expert/serve_loop.h"

#include <optional>
#include <vector>

#include "absl/time/clock.h"
#include "base/log.h"

namespace orrery {
namespace {

// How soon a loop without work notices that it should stop.
constexpr absl::Duration kReceiveTimeout = absl::Milliseconds(100);

}  // namespace

ServeLoop::ServeLoop(ShardExchange* exchange, Shard* shard)
    : exchange_(exchange), shard_(shard), thread_([this] { Run(); }) {}

ServeLoop::~ServeLoop() { Stop(); }

void ServeLoop::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void ServeLoop::Run() {
  std::vector<EntryState> states;
  std::vector<std::byte> results;
  while (!stopping_) {
    const std::optional<InboundFrame> frame = exchange_->Receive(absl::Now() + kReceiveTimeout);
    if (!frame.has_value()) continue;
    const absl::Status status = shard_->Run(*frame, states, results);
    if (!status.ok()) {  // the processor failed: the rank asks another holder
      LogError("frame of layer ", frame->layer, ": ", status.ToString());
      states.assign(frame->entries.size(), EntryState::kRefused);
    }
    exchange_->Reply(*frame, states, results);
  }
}

}  // namespace orrery
