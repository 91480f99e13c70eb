// A rank's exchange over what fits each shard: shared memory on one host, with CUDA IPC above it between GPUs;
// gRPC between hosts.
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
// CUDA IPC is chosen by itself (kAuto) where three things come together: this rank computes on a GPU, the shard is
// found in shared memory, and it says that it has CUDA IPC, too. If the two then cannot open each other's memory,
// rows stay in shared memory, and carrier_problem() says why. NCCL is only used where it is asked for.
//
// With TLS given, gRPC speaks TLS; shared memory and CUDA IPC are never encrypted, they do not leave the host
// nor the user who could read the private key as well. NCCL is not encrypted either.
//
// Errors: INVALID_ARGUMENT (options), unreadable TLS files, and of NCCL and CUDA IPC, if asked for, those of
// layer.h.
#ifndef ORRERY_EXCHANGE_FACTORY_RANK_EXCHANGE_H_
#define ORRERY_EXCHANGE_FACTORY_RANK_EXCHANGE_H_

#include <memory>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/exchange.h"
#include "exchange/grpc/grpc_rank.h"

namespace orrery {

enum class Transport {
  kAuto,  // each shard by the best of CUDA IPC, shared memory and gRPC
  kGrpc,
  kShm,
  kNccl,     // rows by NCCL, over gRPC
  kCudaIpc,  // rows by CUDA IPC, over shared memory
};

struct RankExchangeOptions {
  ExchangeOptions exchange;
  std::string rank_name = {};
  std::vector<GrpcPeer> peers = {};
  TlsFiles tls = {};
  Transport transport = Transport::kAuto;
  bool is_on_gpu = false;                         // the rank computes on one
  int gpu = 0;                                    // which, also for NCCL
  absl::Duration max_backoff = absl::Seconds(2);  // as in the options of either transport
};

// What it holds at most: queues, replies, and memory that it shares with shards of its host.
// max_entries: see exchange/buffer_bytes.h.
size_t RankExchangeBytes(const ExchangeOptions& options, int num_peers, int64_t max_entries);

absl::StatusOr<std::unique_ptr<RankExchange>> MakeRankExchange(const RankExchangeOptions& options);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_FACTORY_RANK_EXCHANGE_H_
