#include "services/attention/courier.h"

#include <iterator>
#include <utility>

namespace orrery {

Courier::Courier() : thread_([this] { Loop(); }) {}

Courier::~Courier() { Stop(); }

void Courier::Carry(std::vector<std::shared_ptr<Outbox>> outboxes) {
  if (outboxes.empty()) return;
  {
    std::lock_guard lock(mutex_);
    due_.insert(std::make_move_iterator(outboxes.begin()), std::make_move_iterator(outboxes.end()));
  }
  news_.notify_one();
}

void Courier::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Courier::Loop() {
  while (true) {
    std::set<std::shared_ptr<Outbox>> round;
    {
      std::unique_lock lock(mutex_);
      // Nobody else brings news, so it may sleep until somebody does.
      news_.wait(lock, [this] { return stopping_ || !due_.empty(); });
      if (due_.empty()) return;
      round = std::exchange(due_, {});
    }
    for (const std::shared_ptr<Outbox>& outbox : round) outbox->TellListener();
  }
}

}  // namespace orrery
