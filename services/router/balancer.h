// Balances the placement of experts, if this router is the one to do it: every few seconds asks the shards how
// many rows each expert had, and tells each which copies to hold. The decisions are balancer_core.h.
//
//   Balancer balancer(options, &state);   // from here on
//   balancer.Stop();
//
// A shard that does not answer is left out of the round; one that is told again what it was told does nothing.
//
// Threads: one of its own. Stop returns within two timeouts of a call.
#ifndef ORRERY_SERVICES_ROUTER_BALANCER_H_
#define ORRERY_SERVICES_ROUTER_BALANCER_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "proto/placement.grpc.pb.h"
#include "services/router/balancer_core.h"
#include "services/router/router_state.h"

namespace orrery {

class Balancer {
 public:
  struct Options {
    BalancerCore::Options core;
    absl::Duration interval = absl::Seconds(10);
    // Of the expert shards, by index in the membership.
    std::map<int, std::shared_ptr<grpc::Channel>> channels;
  };

  // `state` outlives it.
  Balancer(const Options& options, RouterState* state);
  ~Balancer() { Stop(); }
  // Idempotent.
  void Stop();

 private:
  void Run();
  void RunRound();
  void CountRows(const std::vector<int>& shards);
  void Tell(const std::vector<BalanceOrder>& orders, const Membership& membership);

  const Options options_;
  RouterState* const state_;
  BalancerCore core_;  // of the thread
  std::map<int, std::unique_ptr<internal::Placement::Stub>> stubs_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;     // last: it uses the others
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_BALANCER_H_
