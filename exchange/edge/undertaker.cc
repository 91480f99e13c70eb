#include "exchange/edge/undertaker.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "exchange/wait.h"

namespace orrery {

struct Undertaker::Graveyard {
  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by mutex.
  std::deque<std::unique_ptr<Pipe>> dead;
  int num_threads = 0;
};

Undertaker::Undertaker(absl::Duration patience)
    : patience_(patience), yard_(std::make_shared<Graveyard>()) {}

Undertaker::~Undertaker() {
  std::unique_lock lock(yard_->mutex);
  if (WaitUntil(yard_->changed, lock, absl::Now() + patience_,
                [this] { return yard_->num_threads == 0; })) {
    return;
  }
  LogWarning("exchange: ", yard_->num_threads, " connections of GPUs did not close within ",
             absl::FormatDuration(patience_), ", and ", yard_->dead.size(), " more behind them");
}

void Undertaker::Bury(std::unique_ptr<Pipe> pipe) {
  if (pipe == nullptr) return;
  std::lock_guard lock(yard_->mutex);
  yard_->dead.push_back(std::move(pipe));
  if (yard_->num_threads == kMaxThreads) return;  // one of them comes to it
  ++yard_->num_threads;
  std::thread([yard = yard_] { Work(*yard); }).detach();
}

void Undertaker::Work(Graveyard& yard) {
  std::unique_lock lock(yard.mutex);
  while (!yard.dead.empty()) {
    std::unique_ptr<Pipe> pipe = std::move(yard.dead.front());
    yard.dead.pop_front();
    lock.unlock();
    pipe.reset();
    lock.lock();
  }
  --yard.num_threads;
  yard.changed.notify_all();
}

}  // namespace orrery
