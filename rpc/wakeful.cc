#include "rpc/wakeful.h"

#include <chrono>

#include "rpc/nowhere.h"

namespace orrery {
namespace {

// A thread dozes off 1 s after its last event: the second one after that may come late by a fifth.
constexpr std::chrono::milliseconds kInterval(400);

}  // namespace

Wakeful::Wakeful() : thread_([this] { Loop(); }) {}

Wakeful::~Wakeful() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
  std::unique_lock lock(mutex_);
  // Not a wait without end: gRPC promises the callback, and there is no network in between.
  changed_.wait(lock, [this] { return num_calls_ == 0; });
}

void Wakeful::Loop() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    ++num_calls_;
    lock.unlock();
    CallNowhere([this] {
      std::lock_guard done(mutex_);
      --num_calls_;
      if (stopping_) changed_.notify_all();
    });
    lock.lock();
  }
}

}  // namespace orrery
