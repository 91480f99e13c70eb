// exchange/nccl and exchange/cuda_ipc for the conformance tests: what every transport promises, with all rows by
// the carrier.

#include "tests/edge/edge_cluster.h"

namespace orrery {
namespace {

template <CarrierKind kKind>
std::unique_ptr<Cluster> MakeUp(const ClusterSpec& spec) {
  auto cluster = std::make_unique<EdgeCluster>(kKind, spec, QuickEdges());
  EXPECT_TRUE(cluster->AwaitUp());
  return cluster;
}

}  // namespace

std::vector<TransportToTest> TransportsToTest() {
  return {{"Nccl", &MakeUp<CarrierKind::kNccl>}, {"CudaIpc", &MakeUp<CarrierKind::kCudaIpc>}};
}

}  // namespace orrery
