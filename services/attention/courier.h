// One thread that tells the listeners of outboxes that there is news, so that the engine's loop
// need not: what a listener does, such as a write to the network, delays no step.
//
//   courier.Carry(outboxes);   // all that one turn filled or finished; wakes the thread once
//   courier.Stop();            // after everybody was told
//
// It carries no tokens: they stay in the outbox until the listener takes them. An outbox waits here
// at most once, however many turns the thread is behind, so the open requests bound the queue.
//
// Threads: Carry and Stop from any. Listeners are called here, one after the other, without a lock;
// they must not block.
#ifndef ORRERY_SERVICES_ATTENTION_COURIER_H_
#define ORRERY_SERVICES_ATTENTION_COURIER_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "services/attention/outbox.h"

namespace orrery {

class Courier {
 public:
  Courier();
  ~Courier();  // stops

  // Each listener is called after this, at least once. Not after Stop.
  void Carry(std::vector<std::shared_ptr<Outbox>> outboxes);
  // Idempotent.
  void Stop();

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable news_;
  std::set<std::shared_ptr<Outbox>> due_;  // guarded by mutex_
  bool stopping_ = false;                  // guarded by mutex_
  std::thread thread_;                     // last: it uses the others
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_COURIER_H_
