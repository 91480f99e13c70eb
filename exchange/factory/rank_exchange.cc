#include "exchange/factory/rank_exchange.h"

#include <utility>

#include "base/log.h"
#include "exchange/buffer_bytes.h"
#include "exchange/factory/either_channel.h"
#include "exchange/factory/layer.h"
#include "exchange/rank_endpoint.h"
#include "exchange/shm/look_time.h"
#include "exchange/shm/ring_bytes.h"
#include "exchange/shm/shm_rank.h"

namespace orrery {
namespace {

absl::StatusOr<ChannelFactory> MakeChannels(const RankExchangeOptions& options) {
  GrpcRankOptions grpc = {.exchange = options.exchange,
                          .rank_name = options.rank_name,
                          .peers = options.peers,
                          .tls = options.tls,
                          .max_backoff = options.max_backoff};
  ShmRankOptions shm = {.exchange = options.exchange,
                        .rank_name = options.rank_name,
                        .max_backoff = options.max_backoff};
  for (const GrpcPeer& peer : options.peers) shm.shard_names.push_back(peer.address);
  const int num_peers = static_cast<int>(options.peers.size());
  if (options.transport == Transport::kGrpc) return MakeGrpcChannels(grpc);
  if (options.transport == Transport::kShm) return MakeShmChannels(shm);
  if (options.transport == Transport::kNccl) {
    ASSIGN_OR_RETURN(const std::unique_ptr<ChannelLayer> layer,
                     MakeNcclLayerOfThisBuild(num_peers, options.gpu));
    ASSIGN_OR_RETURN(ChannelFactory channels, MakeGrpcChannels(grpc));
    return layer->OverChannels(std::move(channels));
  }
  if (options.transport == Transport::kCudaIpc) {
    ASSIGN_OR_RETURN(const std::unique_ptr<ChannelLayer> layer,
                     MakeCudaIpcLayerOfThisBuild(num_peers, options.gpu));
    ASSIGN_OR_RETURN(ChannelFactory channels, MakeShmChannels(shm));
    return layer->OverChannels(std::move(channels));
  }
  shm.is_optional = true;
  EitherFactories factories;
  ASSIGN_OR_RETURN(factories.first, MakeShmChannels(shm));
  if (options.is_on_gpu) {
    const absl::StatusOr<std::unique_ptr<ChannelLayer>> layer =
        MakeCudaIpcLayerOfThisBuild(num_peers, options.gpu);
    if (layer.ok()) {
      factories.first = (*layer)->OverChannels(std::move(factories.first));
    } else {
      LogWarning("exchange: no cuda_ipc: ", layer.status().ToString());
    }
  }
  ASSIGN_OR_RETURN(factories.second, MakeGrpcChannels(grpc));
  return [factories = std::move(factories)](int peer, Lane lane, ChannelSink* sink) {
    return std::make_unique<EitherChannel>(factories, peer, lane, sink);
  };
}

}  // namespace

size_t RankExchangeBytes(const ExchangeOptions& options, int num_peers, int64_t max_entries) {
  // Of each peer a frame that arrives and one that leaves, as gRPC has them; and two rings.
  const size_t per_lane = 2 * 2 * kMaxFrameBytes + 2 * kRingBytes;
  return RankBufferBytes(options, num_peers, max_entries) + num_peers * kNumLanes * per_lane;
}

absl::StatusOr<std::unique_ptr<RankExchange>> MakeRankExchange(const RankExchangeOptions& options) {
  ASSIGN_OR_RETURN(const ChannelFactory channels, MakeChannels(options));
  const absl::Duration look_time =
      options.transport == Transport::kGrpc || options.transport == Transport::kNccl
          ? absl::ZeroDuration()
          : kShmLookTime;
  return std::make_unique<RankEndpoint>(options.exchange, static_cast<int>(options.peers.size()),
                                        channels, look_time);
}

}  // namespace orrery
