// A rank's exchange over what fits each shard: shared memory on one host, gRPC between hosts.
//
//   RankExchangeOptions options{.exchange = ..., .rank_name = "attention-0"};
//   options.peers = {{"expert-0", "127.0.0.1:7420"}, {"expert-1", "shard-1.example:7420"}};
//   ASSIGN_OR_RETURN(std::unique_ptr<RankExchange> exchange, MakeRankExchange(options));
//   exchange->carrier(0)      // "shm"
//
// A shard that offers shared memory does so under its address, the text that the cluster file has
// for it, in the namespace of names that processes of one host and one network share. So whoever
// answers there was told the same address, and both sides check that it is the same user's; nobody
// has to find out which addresses are this host's. Where nobody answers, and after a loss until
// somebody does again, frames go over gRPC.
//
// With TLS given, gRPC speaks TLS; shared memory is never encrypted, it does not leave the host nor
// the user who could read the private key as well.
//
// NCCL is not encrypted either. Shards must have it, too (exchange/nccl/nccl_layer.h).
//
// Errors: INVALID_ARGUMENT (options), unreadable TLS files, and of NCCL those of layer.h.
#ifndef ORRERY_EXCHANGE_FACTORY_RANK_EXCHANGE_H_
#define ORRERY_EXCHANGE_FACTORY_RANK_EXCHANGE_H_

#include <memory>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/exchange.h"
#include "exchange/grpc/grpc_rank.h"

namespace orrery {

enum class Transport {
  kAuto,  // each shard by shared memory if it can be, by gRPC otherwise
  kGrpc,
  kShm,
  kNccl,  // rows by NCCL, over gRPC
};

struct RankExchangeOptions {
  ExchangeOptions exchange;
  std::string rank_name = {};
  std::vector<GrpcPeer> peers = {};
  TlsFiles tls = {};
  Transport transport = Transport::kAuto;
  int gpu = 0;                                    // of NCCL
  absl::Duration max_backoff = absl::Seconds(2);  // as in the options of either transport
};

absl::StatusOr<std::unique_ptr<RankExchange>> MakeRankExchange(const RankExchangeOptions& options);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_FACTORY_RANK_EXCHANGE_H_
