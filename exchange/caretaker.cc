#include "exchange/caretaker.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "exchange/wait.h"

namespace orrery {

Caretaker::Caretaker(absl::Duration max_nap) : max_nap_(max_nap), thread_([this] { Loop(); }) {}

Caretaker::~Caretaker() {
  {
    std::lock_guard lock(wake_mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  thread_.join();
}

void Caretaker::Add(CaredFor* cared_for) {
  {
    std::lock_guard lock(members_mutex_);
    members_.push_back(cared_for);
  }
  Wake();
}

void Caretaker::Remove(CaredFor* cared_for) {
  std::lock_guard lock(members_mutex_);
  std::erase(members_, cared_for);
}

void Caretaker::Wake() {
  std::lock_guard lock(wake_mutex_);
  woken_ = true;
  wake_.notify_one();
}

void Caretaker::Loop() {
  while (true) {
    const absl::Time now = absl::Now();
    absl::Time next = now + max_nap_;
    {
      std::lock_guard lock(members_mutex_);
      for (CaredFor* member : members_) next = std::min(next, member->TakeCare(now));
    }
    std::unique_lock lock(wake_mutex_);
    WaitUntil(wake_, lock, next, [&] { return woken_ || stopping_; });
    if (stopping_) return;
    woken_ = false;
  }
}

}  // namespace orrery
