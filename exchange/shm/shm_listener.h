// Accepts the connections of ranks and feeds what they bring into a ShardEndpoint, which other
// transports may feed as well.
//
//   ASSIGN_OR_RETURN(auto listener, ShmListener::Listen(options, endpoint));
//   listener->SetAccepting(true);
//
// Threads: as shm_shard.h says. The destructor waits for calls that run; a serve function must have
// been taken back before.
#ifndef ORRERY_EXCHANGE_SHM_SHM_LISTENER_H_
#define ORRERY_EXCHANGE_SHM_SHM_LISTENER_H_

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "exchange/shard_endpoint.h"
#include "exchange/shm/poller.h"
#include "exchange/shm/shm_shard.h"

namespace orrery {

class ShmListener {
 public:
  static absl::StatusOr<std::unique_ptr<ShmListener>> Listen(
      const ShmShardOptions& options, std::shared_ptr<ShardEndpoint> endpoint);
  ~ShmListener();

  void SetAccepting(bool accepting) { accepting_ = accepting; }

 private:
  class Connection;
  class Door;

  ShmListener(const ShmShardOptions& options, std::shared_ptr<ShardEndpoint> endpoint)
      : options_(options), endpoint_(std::move(endpoint)) {}
  void Admit(UniqueFd socket);
  void Drop(uint64_t id);
  // Sends away who did not introduce himself in time; says when to look again.
  absl::Time SendIdlersAway(absl::Time now);

  const ShmShardOptions options_;
  const std::shared_ptr<ShardEndpoint> endpoint_;
  std::atomic<bool> accepting_ = false;
  std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<Connection>> connections_;  // guarded by mutex_
  std::unique_ptr<Poller> poller_;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_SHM_LISTENER_H_
