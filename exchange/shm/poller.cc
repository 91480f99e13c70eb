#include "exchange/shm/poller.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace orrery {
namespace {

constexpr uint64_t kWakeId = 0;  // members start at 1

}  // namespace

absl::StatusOr<std::unique_ptr<Poller>> Poller::Create(int num_threads, absl::Duration look_time) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return SystemError("epoll_create1");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return SystemError("eventfd");
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kWakeId;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return SystemError("epoll_ctl");
  }
  std::unique_ptr<Poller> poller(new Poller(std::move(epoll), std::move(wake), look_time));
  for (int i = 0; i < num_threads; ++i) {
    poller->threads_.emplace_back([loop = poller.get()] { loop->Loop(); });
  }
  return poller;
}

void Poller::Stop() {
  stopping_ = true;
  Ring();  // and nobody takes it back, so that all threads see it
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

uint64_t Poller::Add(std::shared_ptr<Member> member) {
  uint64_t id;
  {
    std::lock_guard lock(mutex_);
    id = next_id_++;
    entries_[id] = std::make_shared<Entry>(Entry{.member = std::move(member)});
  }
  Wake();
  return id;
}

void Poller::Watch(uint64_t id, int socket, bool at_once) {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLONESHOT;
  if (at_once) event.events |= EPOLLOUT;  // a socket is hardly ever full of bells
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket, &event) != 0) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &event);
  }
}

void Poller::Unwatch(int socket) {
  epoll_event ignored = {};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket, &ignored);
}

void Poller::Ring() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void Poller::Wake() {
  {
    std::lock_guard lock(mutex_);
    next_time_ = absl::InfinitePast();
  }
  Ring();
}

void Poller::Forget(uint64_t id) {
  std::shared_ptr<Entry> entry;  // let go of outside the lock
  std::lock_guard lock(mutex_);
  const auto place = entries_.find(id);
  if (place == entries_.end()) return;
  entry = std::move(place->second);
  entries_.erase(place);
}

void Poller::Remove(uint64_t id) {
  std::shared_ptr<Entry> entry;
  std::unique_lock lock(mutex_);
  const auto place = entries_.find(id);
  if (place == entries_.end()) return;
  entry = std::move(place->second);
  entries_.erase(place);
  returned_.wait(lock, [&] { return entry->num_calls == 0; });  // members do not block
}

void Poller::Call(uint64_t id, const std::function<void(Member&)>& call) {
  std::shared_ptr<Entry> entry;
  {
    std::lock_guard lock(mutex_);
    const auto place = entries_.find(id);
    if (place == entries_.end()) return;
    entry = place->second;
    ++entry->num_calls;
  }
  call(*entry->member);
  std::lock_guard lock(mutex_);
  if (--entry->num_calls == 0) returned_.notify_all();
}

int Poller::RunTimes() {
  std::vector<uint64_t> ids;
  const absl::Time now = absl::Now();
  {
    std::lock_guard lock(mutex_);
    if (next_time_ <= now) {
      for (const auto& [id, entry] : entries_) ids.push_back(id);
      next_time_ = absl::InfiniteFuture();
    }
  }
  absl::Time next = absl::InfiniteFuture();
  for (const uint64_t id : ids) {
    Call(id, [&](Member& member) { next = std::min(next, member.OnTime(now)); });
  }
  std::lock_guard lock(mutex_);
  next_time_ = std::min(next_time_, next);  // somebody may have called Wake meanwhile
  if (next_time_ == absl::InfiniteFuture()) return -1;
  const int64_t wait_ms = absl::ToInt64Milliseconds(next_time_ - absl::Now()) + 1;
  return static_cast<int>(std::clamp<int64_t>(wait_ms, 0, 60'000));
}

void Poller::Loop() {
  absl::Time sleep_at = absl::InfinitePast();
  while (!stopping_) {
    epoll_event event = {};  // one: what else is ready is for the other threads
    int timeout_ms = RunTimes();
    const bool looks_only = timeout_ms != 0 && absl::Now() < sleep_at;
    if (looks_only) timeout_ms = 0;
    if (::epoll_wait(epoll_.get(), &event, 1, timeout_ms) != 1) {
      if (looks_only) ::sched_yield();  // whoever has something to do goes first
      continue;
    }
    sleep_at = absl::Now() + look_time_;
    if (event.data.u64 != kWakeId) {
      Call(event.data.u64, [](Member& member) { member.OnReady(); });
    } else if (!stopping_) {
      uint64_t count;
      [[maybe_unused]] const ssize_t size = ::read(wake_.get(), &count, sizeof(count));
    }
  }
}

}  // namespace orrery
