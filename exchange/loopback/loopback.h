// The exchange inside one process: ranks and shards that hand frames to each other directly.
//
//   ASSIGN_OR_RETURN(auto loopback, Loopback::Create({.num_ranks = 1, .num_shards = 2}, options));
//   RankLoop(loopback->rank(0));  ShardLoop(loopback->shard(1));     // each in its own thread
//
// Frames are the same bytes as on a network, through the same tickets and checks. Tests may
// disconnect a pair or kill a shard. There are no threads and no queues of its own: a frame is in
// the peer's inbox when Dispatch or Reply returns.
#ifndef ORRERY_EXCHANGE_LOOPBACK_LOOPBACK_H_
#define ORRERY_EXCHANGE_LOOPBACK_LOOPBACK_H_

#include <memory>

#include "base/status.h"
#include "exchange/exchange.h"

namespace orrery {

struct LoopbackSize {
  int num_ranks = 1;
  int num_shards = 1;
};

class Loopback {
 public:
  virtual ~Loopback() = default;
  static absl::StatusOr<std::unique_ptr<Loopback>> Create(LoopbackSize size,
                                                          const ExchangeOptions& options);
  // As above, where the two sides believe different things; for tests.
  static absl::StatusOr<std::unique_ptr<Loopback>> Create(LoopbackSize size,
                                                          const ExchangeOptions& rank_options,
                                                          const ExchangeOptions& shard_options);

  virtual RankExchange& rank(int rank) = 0;
  virtual ShardExchange& shard(int shard) = 0;
  // Cuts every connection of a shard, as kill -9 would: frames leave its inbox, and replies to
  // those that it has received go nowhere.
  virtual void DisconnectShard(int shard) = 0;
  // Connects it anew with every rank.
  virtual void ReconnectShard(int shard) = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_LOOPBACK_LOOPBACK_H_
