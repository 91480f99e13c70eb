// Keeps the threads that run gRPC's callbacks from dozing off.
//
//   Wakeful wakeful;      // as long as it lives
//
// Those threads (of gRPC 1.51, where its poller does not run in the background) sleep for 100 ms
// after each second without an event for them, and what comes meanwhile waits: 60 ms before the
// first token of a request after a quiet second. So one event per thread is made well within each
// second, by calls that fail at once without leaving the process; the thread that gets the last one
// waits for the next, awake. Two fifths of a second between them cost some 0.01 % of a core.
//
// Internal to rpc.
#ifndef ORRERY_RPC_WAKEFUL_H_
#define ORRERY_RPC_WAKEFUL_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "grpcpp/channel.h"

namespace orrery {

class Wakeful {
 public:
  Wakeful();
  ~Wakeful();

 private:
  void Loop();
  void MakeEvent();

  const std::shared_ptr<grpc::Channel> nowhere_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool stopping_ = false;
  int num_calls_ = 0;   // under way
  std::thread thread_;  // last: it uses the others
};

}  // namespace orrery

#endif  // ORRERY_RPC_WAKEFUL_H_
