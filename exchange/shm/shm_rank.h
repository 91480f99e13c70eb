// The rank's side of the exchange over shared memory: for shards on the same host.
//
//   ShmRankOptions options{.exchange = ..., .rank_name = "attention-0"};
//   options.shard_names = {"expert-0", "expert-1"};       // peers 0 and 1
//   ASSIGN_OR_RETURN(std::unique_ptr<RankExchange> exchange, MakeShmRankExchange(options));
//
// Connections open in the background and again after a loss, with a growing, jittered, bounded
// pause. A shard that is not there is no error: its entries end as kLost.
//
// Threads: one of its own for all shards; it only files replies, so it is never long away.
// Errors: INVALID_ARGUMENT (options); what the system says if it has no descriptors left.
#ifndef ORRERY_EXCHANGE_SHM_SHM_RANK_H_
#define ORRERY_EXCHANGE_SHM_SHM_RANK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/channel.h"
#include "exchange/exchange.h"
#include "exchange/shm/look_time.h"

namespace orrery {

struct ShmRankOptions {
  ExchangeOptions exchange;
  std::string rank_name = {};
  std::vector<std::string> shard_names = {};  // as in ShmShardOptions
  // A shard that cannot be reached so at all is nothing to warn of: another transport reaches it.
  bool is_optional = false;
  // A shard that makes no room for so long while frames wait counts as lost.
  absl::Duration write_timeout = absl::Seconds(5);
  // A connection that is not accepted within this is given up and tried again.
  absl::Duration connect_timeout = absl::Seconds(5);
  // Pause before the second attempt to connect, doubled up to the maximum; each pause is jittered
  // by up to a half.
  absl::Duration min_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
};

absl::StatusOr<std::unique_ptr<RankExchange>> MakeShmRankExchange(ShmRankOptions options);

// Its channels alone, for an exchange that has others too.
absl::StatusOr<ChannelFactory> MakeShmChannels(const ShmRankOptions& options);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_SHM_RANK_H_
