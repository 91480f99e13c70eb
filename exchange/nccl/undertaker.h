// A thread that destroys pipes, which may block: NCCL ends what is under way, and the stream lets go of
// its memory. Nobody else waits for that.
//
//   undertaker.Bury(std::move(pipe));
//
// Its destructor returns when all are destroyed, which takes as long as ncclCommAbort takes.
#ifndef ORRERY_EXCHANGE_NCCL_UNDERTAKER_H_
#define ORRERY_EXCHANGE_NCCL_UNDERTAKER_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "exchange/nccl/pipe.h"

namespace orrery {

class Undertaker {
 public:
  Undertaker() : thread_([this] { Loop(); }) {}
  ~Undertaker() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_one();
    }
    thread_.join();
  }

  // Null is nothing.
  void Bury(std::unique_ptr<Pipe> pipe) {
    if (pipe == nullptr) return;
    std::lock_guard lock(mutex_);
    dead_.push_back(std::move(pipe));
    changed_.notify_one();
  }

 private:
  void Loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !dead_.empty(); });
      if (dead_.empty()) return;
      std::vector<std::unique_ptr<Pipe>> burying = std::exchange(dead_, {});
      lock.unlock();
      burying.clear();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Pipe>> dead_;  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::thread thread_;                       // last: it uses the others
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_UNDERTAKER_H_
