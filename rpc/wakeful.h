// Keeps the threads that run gRPC's callbacks from dozing off.
//
//   Wakeful wakeful;      // as long as it lives
//
// Those threads (of gRPC 1.51, where its poller does not run in the background) sleep for 100 ms
// after each second without an event for them, and what comes meanwhile waits for one that is awake:
// 60 ms before the first token of a request after a quiet second, when all were asleep. So an event is
// made well within each second, by a call to nowhere (rpc/nowhere.h): whichever thread gets it waits
// for a second from then on, awake.
//
// Internal to rpc.
#ifndef ORRERY_RPC_WAKEFUL_H_
#define ORRERY_RPC_WAKEFUL_H_

#include <condition_variable>
#include <mutex>
#include <thread>

namespace orrery {

class Wakeful {
 public:
  Wakeful();
  ~Wakeful();

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool stopping_ = false;
  int num_calls_ = 0;   // under way
  std::thread thread_;  // last: it uses the others
};

}  // namespace orrery

#endif  // ORRERY_RPC_WAKEFUL_H_
