// A cluster for this machine, described in few words, and the cluster file that it becomes.
//
//   ASSIGN_OR_RETURN(internal::ClusterFile cluster,
//                    MakeLocalCluster({.model_dir = dir, .num_ranks = 2, .num_shards = 4}));
//   RETURN_IF_ERROR(WriteClusterFile(cluster, path));
//
// Members are called router-0.., attention-0.., expert-0.., all on 127.0.0.1.
#ifndef ORRERY_TOOLS_LAUNCH_TOPOLOGY_H_
#define ORRERY_TOOLS_LAUNCH_TOPOLOGY_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "proto/cluster.pb.h"

namespace orrery {

struct Topology {
  std::string model_dir;
  // Empty: the name of the folder.
  std::string model_name;
  int num_routers = 1;
  int num_ranks = 1;
  int num_shards = 1;        // 0 for a dense model
  int num_spare_shards = 0;  // beside them
  internal::Numerics numerics;
  internal::Limits limits;
  internal::Exchange exchange = internal::EXCHANGE_UNSPECIFIED;
  internal::Tls tls;            // without a certificate: plain text
  int num_threads = 0;          // of each rank and shard; 0: their share of the processors
  std::vector<int> gpus = {0};  // taken in turn by ranks, then shards
};

// With ports that are free now. INVALID_ARGUMENT for a topology without routers or ranks.
absl::StatusOr<internal::ClusterFile> MakeLocalCluster(const Topology& topology);

absl::Status WriteClusterFile(const internal::ClusterFile& cluster, const std::string& path);

// Distinct ports of 127.0.0.1 that nobody listens on, drawn from 10000..32000: below the range from
// which the kernel takes ports for outgoing connections (32768 and up), so that none of those takes
// one before its member does.
absl::StatusOr<std::vector<int>> PickFreePorts(int num_ports);

// Whether a process on this machine can listen at the host of this address.
bool IsOnThisMachine(const std::string& address);

}  // namespace orrery

#endif  // ORRERY_TOOLS_LAUNCH_TOPOLOGY_H_
