// exchange/nccl for the conformance tests: what every transport promises, with all rows by NCCL.

#include "tests/nccl/nccl_cluster.h"

namespace orrery {

std::vector<TransportToTest> TransportsToTest() {
  return {{"Nccl", [](const ClusterSpec& spec) -> std::unique_ptr<Cluster> {
             auto cluster = std::make_unique<NcclCluster>(spec, QuickNccl());
             for (int rank = 0; rank < spec.num_ranks; ++rank) {
               for (int shard = 0; shard < spec.num_shards; ++shard) {
                 EXPECT_TRUE(AwaitCarrier(cluster->rank(rank), shard, "nccl"));
               }
             }
             return cluster;
           }}};
}

}  // namespace orrery
