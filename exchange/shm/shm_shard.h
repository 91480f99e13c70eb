// The shard's side of the exchange over shared memory: for ranks on the same host.
//
//   ASSIGN_OR_RETURN(auto exchange, MakeShmShardExchange({.exchange = ..., .name = "expert-0"}));
//   exchange->SetAccepting(true);             // once the weights are there
//   while (auto group = exchange->Receive(deadline)) ...
//
// It listens under the name in the abstract socket namespace; only processes of the same user get
// in. What a rank writes is checked like what comes over a network: one that writes garbage loses
// its connection, one that dies at any moment is noticed at once.
//
// Threads: two of its own, so that frames come in while one of them serves (ServeOnArrival);
// Receive and Reply belong to it and to the shard's loop. SetAccepting and Close from any.
// Errors: INVALID_ARGUMENT (options), and what the system says if the name is taken.
#ifndef ORRERY_EXCHANGE_SHM_SHM_SHARD_H_
#define ORRERY_EXCHANGE_SHM_SHM_SHARD_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/exchange.h"

namespace orrery {

class ChannelLayer;

struct ShmShardOptions {
  ExchangeOptions exchange;
  std::string name = {};  // of this shard, unique on the host
  // Connections that may be open at a time (two per rank).
  int max_streams = 256;
  // Who connects and does not introduce himself within this is sent away.
  absl::Duration hello_timeout = absl::Seconds(5);
  // What frames pass through on their way to the inbox and back; outlives the exchange. Null: nothing.
  ChannelLayer* layer = nullptr;
};

class ShmShardExchange : public ShardExchange {
 public:
  // While not accepting (as at first), new connections are refused; open ones stay.
  virtual void SetAccepting(bool accepting) = 0;
};

absl::StatusOr<std::unique_ptr<ShmShardExchange>> MakeShmShardExchange(
    const ShmShardOptions& options);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_SHM_SHARD_H_
