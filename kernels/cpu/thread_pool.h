// The threads that share the work of one Kernels object.
//
//   ThreadPool pool(4, /*cpus=*/{0, 1, 2, 3});
//   pool.Run(num_parts, [&](int thread, int part) { ... });   // returns when all parts are done
//
// Parts are taken one by one, by whoever is free, the caller too; which thread runs which part
// differs from run to run, so a part must depend on nothing but its number (and may use working
// memory of its thread's own). Threads that find nothing to do sleep at once and never spin, and so
// does the caller while it waits for the last part: processes that share a machine are not held up
// by waiting ones. Run allocates nothing.
//
// What it does not do: it places no memory and knows no NUMA nodes. Working memory lies where the
// thread that first writes it runs; weights lie where they were loaded. On a machine with several
// nodes, run one process per node, and pin its threads to the processors of that node.
//
// Threads: one caller at a time.
#ifndef ORRERY_KERNELS_CPU_THREAD_POOL_H_
#define ORRERY_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace orrery {

class ThreadPool {
 public:
  using Body = absl::FunctionRef<void(int thread, int part)>;

  // num_threads counts the caller, which is thread 0. Thread i > 0 is pinned to cpus[i], if there are
  // so many (the caller stays where its owner has put it); a processor that does not exist leaves it where it is.
  explicit ThreadPool(int num_threads, const std::vector<int>& cpus = {});
  ~ThreadPool();

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }
  void Run(int num_parts, Body body);

 private:
  void Work(int thread);
  void TakeParts(int thread, const Body& body, int num_parts);

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  // Guarded by mutex_.
  bool stopping_ = false;
  uint64_t generation_ = 0;     // of runs; a thread joins each at most once
  const Body* body_ = nullptr;  // of the run under way
  int num_parts_ = 0;
  int num_working_ = 0;  // threads, without the caller

  std::atomic<int> next_part_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_THREAD_POOL_H_
