// The loop of an expert shard: Receive, run, Reply.
//
//   ServeLoop loop(&exchange, shard.get());
//   ...
//   loop.Stop();
#ifndef ORRERY_SERVICES_EXPERT_SERVE_LOOP_H_
#define ORRERY_SERVICES_EXPERT_SERVE_LOOP_H_

#include <atomic>
#include <thread>

#include "exchange/exchange.h"
#include "services/expert/shard.h"

namespace orrery {

// Runs in a thread of its own from construction to Stop(). Both arguments outlive it.
class ServeLoop {
 public:
  ServeLoop(ShardExchange* exchange, Shard* shard);
  ~ServeLoop();
  // Finishes the frame at hand. Idempotent.
  void Stop();

 private:
  void Run();

  ShardExchange* exchange_;
  Shard* shard_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_SERVE_LOOP_H_
