// Ranks and shards whose rows go by NCCL over gRPC channels, on the stand-ins.
//
//   NcclCluster cluster(spec, QuickNccl());
//   AwaitCarrier(cluster.rank(0), 0, "nccl");
#ifndef ORRERY_TESTS_NCCL_NCCL_CLUSTER_H_
#define ORRERY_TESTS_NCCL_NCCL_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "exchange/conformance.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/nccl/nccl_layer.h"
#include "rpc/server.h"

namespace orrery {

// All rows by NCCL, and little patience.
NcclOptions QuickNccl();

std::unique_ptr<ChannelLayer> MakeStandInLayer(const NcclOptions& options);
// To shards at these addresses.
std::unique_ptr<RankExchange> MakeNcclRank(ChannelLayer* layer, const ExchangeOptions& options,
                                           const std::string& name,
                                           const std::vector<std::string>& addresses);

class NcclShard {
 public:
  // Null if it cannot listen there.
  static std::unique_ptr<NcclShard> Start(ChannelLayer* layer, const ExchangeOptions& options,
                                          const std::string& address);
  ~NcclShard() {
    if (server_ != nullptr) Stop();
  }
  void Stop() { server_->Stop(absl::Now()); }
  const std::string& address() const { return server_->address(); }
  ShardExchange& exchange() { return *exchange_; }

 private:
  std::unique_ptr<GrpcShardExchange> exchange_;
  std::unique_ptr<Server> server_;  // goes first
};

class NcclCluster : public Cluster {
 public:
  NcclCluster(const ClusterSpec& spec, const NcclOptions& options);
  RankExchange& rank(int rank) override { return *ranks_[rank]; }
  ShardExchange& shard(int shard) override { return shards_[shard]->exchange(); }
  void KillShard(int shard) override { shards_[shard]->Stop(); }
  bool ReviveShard(int shard) override;

 private:
  const ClusterSpec spec_;
  const std::unique_ptr<ChannelLayer> shard_layer_;
  const std::unique_ptr<ChannelLayer> rank_layer_;
  std::vector<std::unique_ptr<NcclShard>> shards_;
  std::vector<std::unique_ptr<RankExchange>> ranks_;
};

// Until the rank's decode rows go to the peer by `carrier`; false past a far deadline.
bool AwaitCarrier(const RankExchange& rank, int peer, std::string_view carrier);

}  // namespace orrery

#endif  // ORRERY_TESTS_NCCL_NCCL_CLUSTER_H_
