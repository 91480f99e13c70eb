// A TCP proxy between two members that can be told to harm what passes.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<FaultProxy> proxy, FaultProxy::Start("127.0.0.1:7420"));
//   // whoever dials proxy->address() reaches 127.0.0.1:7420
//   proxy->Set({.drop_to_target = true});   // a one-way partition
//   proxy->Set({});                         // all is well again
//   proxy->CutAll();                        // every connection, now
//
// Dropped bytes are not lost to TCP, which would not allow it: they are held back until the fault ends,
// and then the connection is cut, as a partition that heals looks to whoever waited.
//
// Threads: thread-safe; each connection has two of its own.
#ifndef ORRERY_TOOLS_CHAOS_FAULT_PROXY_H_
#define ORRERY_TOOLS_CHAOS_FAULT_PROXY_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "base/status.h"

namespace orrery {

struct ProxyFault {
  absl::Duration delay = absl::ZeroDuration();  // of every piece, each way
  bool drop_to_target = false;                  // nothing gets through to the target
  bool drop_to_client = false;                  // nothing comes back
  bool refuse = false;                          // new connections are closed at once
  double cut_per_piece = 0.0;                   // chance that a piece is the connection's last
  double flip_per_piece = 0.0;                  // chance that one bit of a piece is wrong
  uint64_t seed = 0;
};

class FaultProxy {
 public:
  // Listens at a free port of 127.0.0.1.
  static absl::StatusOr<std::unique_ptr<FaultProxy>> Start(const std::string& target);
  ~FaultProxy();

  const std::string& address() const { return address_; }
  void Set(const ProxyFault& fault);
  void CutAll();
  // Pieces that were harmed.
  int64_t num_harmed() const { return num_harmed_; }

 private:
  enum class Direction { kToTarget, kToClient };
  struct Connection {
    int client = -1;
    int target = -1;
    std::atomic<int> num_pumps = 2;
    std::thread to_target;
    std::thread to_client;
  };

  FaultProxy() = default;
  void Listen();
  void Accept(int client);
  // Carries bytes one way, until either side closes or the fault cuts it.
  void Pump(Connection& connection, Direction direction);
  ProxyFault fault();
  // Joins those that have ended.
  void Reap();

  std::string target_;
  std::string address_;
  int listener_ = -1;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<int64_t> num_harmed_ = 0;
  std::mutex mutex_;
  ProxyFault fault_;                                    // guarded by mutex_
  std::list<std::unique_ptr<Connection>> connections_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_FAULT_PROXY_H_
