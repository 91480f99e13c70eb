// The loop of an expert shard: Receive a group of frames, run it, Reply to each.
//
// While a group is at hand, frames wait and become the next group. A frame that finds nobody at
// work is run by the thread that brought it, one group and no more. That departs from "handlers
// enqueue, loops pull" (ARCHITECTURE.md, Decisions): waking up the loop would take a third of the
// way between rank and shard again (`orrery bench step`).
//
//   ServeLoop loop(&exchange, shard.get());
//   ...
//   ServeCounters counters = loop.counters();   // counters.frames / counters.groups: how grouped
//   loop.Stop();
#ifndef ORRERY_SERVICES_EXPERT_SERVE_LOOP_H_
#define ORRERY_SERVICES_EXPERT_SERVE_LOOP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/types/span.h"
#include "base/heartbeat.h"
#include "exchange/exchange.h"
#include "rpc/monitoring/instruments.h"
#include "services/expert/shard.h"

namespace orrery {

// What was answered since the start.
struct ServeCounters {
  uint64_t groups = 0;  // computations
  uint64_t frames = 0;  // answers
  uint64_t rows = 0;    // visits of a row to an expert, held or not
};

// Runs in a thread of its own from construction to Stop(). Both arguments outlive it.
class ServeLoop {
 public:
  ServeLoop(ShardExchange* exchange, Shard* shard);
  ~ServeLoop();
  // Changes the shard between two groups, in the caller's thread. It must be quick: frames wait.
  void Change(const std::function<void(Shard&)>& change);
  // Finishes the group at hand. Idempotent.
  void Stop();
  // From any thread, also while it runs.
  ServeCounters counters() const;
  // Beats with each group, and rests between them.
  const Heartbeat& heartbeat() const { return heartbeat_; }
  // To compute a group.
  const Histogram& group_seconds() const { return group_seconds_; }

 private:
  void Run();
  // One group on the caller's thread, if nobody is at work; says whether it could.
  bool ServeOne();
  // One group, if one still waits. Needs at_work_: what is taken before the shard is free misses
  // the frames that come meanwhile, and can neither be passed by a decode frame nor be given up.
  void ServeNext();
  void Count(absl::Span<const FrameAnswer> answers);

  ShardExchange* exchange_;
  Shard* shard_;
  std::atomic<bool> stopping_ = false;
  std::mutex at_work_;  // the shard belongs to who holds it
  mutable std::mutex mutex_;
  ServeCounters counters_;  // guarded by mutex_
  Heartbeat heartbeat_;
  Histogram group_seconds_{OneTwoFive(-5, 1)};
  std::thread thread_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_SERVE_LOOP_H_
