#include "kernels/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/check.h"

namespace orrery {
namespace {

void Pin(std::thread& thread, int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(thread.native_handle(), sizeof(set), &set);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, const std::vector<int>& cpus) {
  ORRERY_CHECK(num_threads >= 1) << "a pool of " << num_threads << " threads";
  for (int i = 1; i < num_threads; ++i) {
    threads_.emplace_back([this, i] { Work(i); });
    if (i < static_cast<int>(cpus.size())) Pin(threads_.back(), cpus[i]);
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(int num_parts, Body body) {
  const int num_helpers = std::min(num_parts - 1, static_cast<int>(threads_.size()));
  if (num_helpers <= 0) {
    for (int part = 0; part < num_parts; ++part) body(0, part);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    next_part_.store(0, std::memory_order_relaxed);
    body_ = &body;
    num_parts_ = num_parts;
    ++generation_;
  }
  for (int i = 0; i < num_helpers; ++i) work_.notify_one();
  TakeParts(0, body, num_parts);
  // All parts are taken; those who wake up only now find no run. The wait is as long as one part.
  std::unique_lock lock(mutex_);
  body_ = nullptr;
  done_.wait(lock, [this] { return num_working_ == 0; });
}

void ThreadPool::Work(int thread) {
  uint64_t last_generation = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    // Nobody else brings work, so it may sleep until somebody does.
    work_.wait(lock,
               [&] { return stopping_ || (body_ != nullptr && generation_ != last_generation); });
    if (stopping_) return;
    last_generation = generation_;
    const Body body = *body_;
    const int num_parts = num_parts_;
    ++num_working_;
    lock.unlock();
    TakeParts(thread, body, num_parts);
    lock.lock();
    if (--num_working_ == 0 && body_ == nullptr) done_.notify_one();
  }
}

void ThreadPool::TakeParts(int thread, const Body& body, int num_parts) {
  while (true) {
    const int part = next_part_.fetch_add(1, std::memory_order_relaxed);
    if (part >= num_parts) return;
    body(thread, part);
  }
}

}  // namespace orrery
