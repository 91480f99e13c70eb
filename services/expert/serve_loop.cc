#include "services/expert/serve_loop.h"

#include <optional>

#include "base/fault_point.h"

namespace orrery {

ServeLoop::ServeLoop(ShardExchange* exchange, Shard* shard)
    : exchange_(exchange), shard_(shard), thread_([this] { Run(); }) {
  exchange_->ServeOnArrival([this] { return ServeOne(); });
}

ServeLoop::~ServeLoop() { Stop(); }

void ServeLoop::Stop() {
  stopping_ = true;
  exchange_->ServeOnArrival(nullptr);
  exchange_->WakeUp();
  if (thread_.joinable()) thread_.join();
}

void ServeLoop::Change(const std::function<void(Shard&)>& change) {
  std::lock_guard lock(at_work_);
  change(*shard_);
}

ServeCounters ServeLoop::counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

void ServeLoop::Run() {
  while (!stopping_) {
    // Stop wakes it up, and an idle loop costs nothing.
    if (!exchange_->Await(absl::InfiniteFuture())) continue;
    std::lock_guard lock(at_work_);
    ServeNext();
  }
}

bool ServeLoop::ServeOne() {
  std::unique_lock lock(at_work_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  ServeNext();
  return true;
}

void ServeLoop::ServeNext() {
  const std::optional<InboundGroup> group = exchange_->Receive(absl::InfinitePast());
  if (!group.has_value()) return;
  PassFaultPoint(FaultPoint::kAfterReceive);
  heartbeat_.Beat();
  const absl::Span<const FrameAnswer> answers = shard_->Run(*group);
  group_seconds_.Observe(absl::ToDoubleSeconds(heartbeat_.Age()));
  heartbeat_.Rest();
  Count(answers);  // first, so that who has an answer finds it counted
  PassFaultPoint(FaultPoint::kBeforeReply);
  for (size_t i = 0; i < answers.size(); ++i) {
    exchange_->Reply((*group)[i], answers[i]);
  }
}

void ServeLoop::Count(absl::Span<const FrameAnswer> answers) {
  std::lock_guard lock(mutex_);
  ++counters_.groups;
  counters_.frames += answers.size();
  for (const FrameAnswer& answer : answers) counters_.rows += answer.states.size();
}

}  // namespace orrery
