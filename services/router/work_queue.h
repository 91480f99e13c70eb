// A few threads for what takes too long for gRPC's own, and the work that waits for them.
//
//   WorkQueue workers({.num_threads = 2, .max_waiting_bytes = 64 << 20});
//   RETURN_IF_ERROR(workers.Push(request_bytes, [=] { Answer(request); }));
//
// gRPC has half as many threads for its callbacks as there are cores (at least two), and every
// token of every open answer passes through them. Tokenizing 100,000 characters takes 10 to 40 ms,
// the longest message (16 MiB) up to 7 s: two such prompts on those threads would stop all answers
// for as long.
//
// First come, first served. Each piece must end by itself; it is run in any case, also when the
// queue is being destroyed, so that no call is left without an answer. Threads: Push from any.
// Errors: RESOURCE_EXHAUSTED if too much is waiting; the work is not run then.
#ifndef ORRERY_SERVICES_ROUTER_WORK_QUEUE_H_
#define ORRERY_SERVICES_ROUTER_WORK_QUEUE_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"

namespace orrery {

class WorkQueue {
 public:
  struct Options {
    // Two: a long prompt does not hold up the short ones behind it.
    int num_threads = 2;
    // Four of the longest messages, or tens of thousands of short ones.
    size_t max_waiting_bytes = 64 << 20;
  };
  using Work = std::function<void()>;

  explicit WorkQueue(const Options& options);
  // Runs what waits.
  ~WorkQueue();

  // `bytes`: what the work holds while it waits.
  absl::Status Push(size_t bytes, Work work);

 private:
  struct Entry {
    size_t bytes = 0;
    Work work;
  };

  void Loop();

  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::deque<Entry> waiting_;
  size_t waiting_bytes_ = 0;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_WORK_QUEUE_H_
