#include "tests/nccl/nccl_cluster.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "device/cuda/cuda_device.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/rank_endpoint.h"

namespace orrery {

NcclOptions QuickNccl() {
  return {.max_edges = 8,
          .min_row_bytes = 1,
          .operation_timeout = absl::Seconds(1),
          .forming_timeout = absl::Seconds(1),
          .min_backoff = absl::Milliseconds(10),
          .max_backoff = absl::Milliseconds(100)};
}

std::unique_ptr<ChannelLayer> MakeStandInLayer(const NcclOptions& options) {
  return MakeNcclLayer(options, MakeCudaDevice(0).value()).value();
}

std::unique_ptr<RankExchange> MakeNcclRank(ChannelLayer* layer, const ExchangeOptions& options,
                                           const std::string& name,
                                           const std::vector<std::string>& addresses) {
  GrpcRankOptions grpc{
      .exchange = options, .rank_name = name, .max_backoff = absl::Milliseconds(100)};
  for (size_t i = 0; i < addresses.size(); ++i) {
    grpc.peers.push_back({absl::StrCat("shard-", i), addresses[i]});
  }
  return std::make_unique<RankEndpoint>(options, static_cast<int>(addresses.size()),
                                        layer->OverChannels(MakeGrpcChannels(grpc).value()));
}

std::unique_ptr<NcclShard> NcclShard::Start(ChannelLayer* layer, const ExchangeOptions& options,
                                            const std::string& address) {
  auto shard = std::make_unique<NcclShard>();
  shard->exchange_ = MakeGrpcShardExchange({.exchange = options, .layer = layer}).value();
  shard->exchange_->SetAccepting(true);
  auto server = Server::Start({.address = address}, {shard->exchange_->service()});
  if (!server.ok()) return nullptr;
  shard->server_ = *std::move(server);
  return shard;
}

NcclCluster::NcclCluster(const ClusterSpec& spec, const NcclOptions& options)
    : spec_(spec), shard_layer_(MakeStandInLayer(options)), rank_layer_(MakeStandInLayer(options)) {
  std::vector<std::string> addresses;
  for (int shard = 0; shard < spec.num_shards; ++shard) {
    shards_.push_back(NcclShard::Start(shard_layer_.get(), spec.shard_options, "127.0.0.1:0"));
    ORRERY_CHECK(shards_.back() != nullptr);
    addresses.push_back(shards_.back()->address());
  }
  for (int rank = 0; rank < spec.num_ranks; ++rank) {
    ranks_.push_back(
        MakeNcclRank(rank_layer_.get(), spec.rank_options, absl::StrCat("rank-", rank), addresses));
  }
}

bool NcclCluster::ReviveShard(int shard) {
  const std::string address = shards_[shard]->address();
  shards_[shard].reset();
  shards_[shard] = NcclShard::Start(shard_layer_.get(), spec_.shard_options, address);
  return shards_[shard] != nullptr;
}

bool AwaitCarrier(const RankExchange& rank, int peer, std::string_view carrier) {
  const absl::Time deadline = Far();
  while (rank.carrier(peer) != carrier && absl::Now() < deadline) std::this_thread::yield();
  return rank.carrier(peer) == carrier;
}

}  // namespace orrery
