// Ranks and shards whose rows go by a carrier, on the stand-ins: NCCL over gRPC, CUDA IPC over shared memory.
//
//   EdgeCluster cluster(CarrierKind::kNccl, spec, QuickEdges());
//   AwaitCarrier(cluster.rank(0), 0, "nccl");
#ifndef ORRERY_TESTS_EDGE_EDGE_CLUSTER_H_
#define ORRERY_TESTS_EDGE_EDGE_CLUSTER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "exchange/channel.h"
#include "exchange/conformance.h"
#include "exchange/edge/edge_layer.h"

namespace orrery {

enum class CarrierKind { kNccl, kCudaIpc };
std::string_view CarrierName(CarrierKind kind);  // "nccl"
std::string_view BelowName(CarrierKind kind);    // of the channels below: "grpc"

// All rows by the carrier, and little patience.
EdgeOptions QuickEdges();

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeLayer(CarrierKind kind,
                                                        const EdgeOptions& options);
// To shards at these addresses.
std::unique_ptr<RankExchange> MakeEdgeRank(CarrierKind kind, ChannelLayer* layer,
                                           const ExchangeOptions& options, const std::string& name,
                                           const std::vector<std::string>& addresses);

class EdgeShard {
 public:
  virtual ~EdgeShard() = default;
  // Address: host:port, or of shared memory a name; empty for a free one. layer: null for none. Null if it
  // cannot listen there.
  static std::unique_ptr<EdgeShard> Start(CarrierKind kind, ChannelLayer* layer,
                                          const ExchangeOptions& options,
                                          const std::string& address = "");
  virtual void Stop() = 0;
  virtual const std::string& address() const = 0;
  virtual ShardExchange& exchange() = 0;
};

// All of it in this process.
class EdgeCluster : public Cluster {
 public:
  EdgeCluster(CarrierKind kind, const ClusterSpec& spec, const EdgeOptions& options);
  RankExchange& rank(int rank) override { return *ranks_[rank]; }
  ShardExchange& shard(int shard) override { return shards_[shard]->exchange(); }
  void KillShard(int shard) override { shards_[shard]->Stop(); }
  bool ReviveShard(int shard) override;
  // Every rank reaches every shard by the carrier; false past a far deadline.
  bool AwaitUp() const;

 private:
  const CarrierKind kind_;
  const ClusterSpec spec_;
  const std::unique_ptr<ChannelLayer> shard_layer_;
  const std::unique_ptr<ChannelLayer> rank_layer_;
  std::vector<std::unique_ptr<EdgeShard>> shards_;
  std::vector<std::unique_ptr<RankExchange>> ranks_;
};

// Until the rank's decode rows go to the peer by `carrier`; false past a far deadline.
bool AwaitCarrier(const RankExchange& rank, int peer, std::string_view carrier);
// Until the rank's carrier_problem() has these words in it; likewise.
bool AwaitProblem(const RankExchange& rank, int peer, std::string_view words);

// Faults of the stand-ins in this process, which replace the earlier ones: words out of never_joins, stalls, fails,
// abort_hangs (NCCL) and version=22703 (NCCL). None: all is well.
void Misbehave(const std::string& faults);

}  // namespace orrery

#endif  // ORRERY_TESTS_EDGE_EDGE_CLUSTER_H_
