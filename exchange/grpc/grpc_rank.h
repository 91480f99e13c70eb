// The rank's side of the exchange over gRPC: one long-lived stream per shard and lane.
//
//   GrpcRankOptions options{.exchange = ..., .rank_name = "attention-0"};
//   options.peers = {{"expert-0", "10.0.0.7:7420"}, {"expert-1", "shard-1.example:7420"}};
//   ASSIGN_OR_RETURN(std::unique_ptr<RankExchange> exchange, MakeGrpcRankExchange(options));
//
// Streams open in the background and reopen after a loss, with a growing, jittered, bounded pause;
// DNS names are resolved anew. peers[i] is peer i. A shard that is not there is no error: its
// entries end as kLost.
//
// Threads: one of its own for reconnecting; callbacks run on gRPC's. The object's destructor closes
// and waits for gRPC to let go of its streams, which cancelling makes prompt.
// Errors: INVALID_ARGUMENT (options), and unreadable TLS files.
#ifndef ORRERY_EXCHANGE_GRPC_GRPC_RANK_H_
#define ORRERY_EXCHANGE_GRPC_GRPC_RANK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/channel.h"
#include "exchange/exchange.h"
#include "rpc/credentials.h"

namespace orrery {

struct GrpcPeer {
  std::string name;     // for log lines
  std::string address;  // host:port
};

struct GrpcRankOptions {
  ExchangeOptions exchange;
  std::string rank_name = {};
  std::vector<GrpcPeer> peers = {};
  TlsFiles tls = {};
  // Shards on this host through their Unix sockets, where they have them.
  bool local_sockets = true;
  // A frame that the peer's connection does not take for this long means that the peer is lost.
  absl::Duration write_timeout = absl::Seconds(5);
  // So does a peer of which nothing comes for this long behind a knock (exchange/channel.h).
  absl::Duration knock_timeout = absl::Seconds(2);
  // A stream that does not open within this is given up and tried again.
  absl::Duration connect_timeout = absl::Seconds(5);
  // Pause before the second attempt to connect, doubled up to the maximum; each pause is jittered
  // by up to a half.
  absl::Duration min_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
};

absl::StatusOr<std::unique_ptr<RankExchange>> MakeGrpcRankExchange(GrpcRankOptions options);

// Its channels alone, for an exchange that has others too.
absl::StatusOr<ChannelFactory> MakeGrpcChannels(const GrpcRankOptions& options);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_GRPC_RANK_H_
