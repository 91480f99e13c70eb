// The TLS files that a cluster file names.
#ifndef ORRERY_RPC_CLUSTER_TLS_H_
#define ORRERY_RPC_CLUSTER_TLS_H_

#include "proto/cluster.pb.h"
#include "rpc/credentials.h"

namespace orrery {

inline TlsFiles TlsFilesOf(const internal::ClusterFile& cluster) {
  return {.certificate = cluster.tls().certificate(),
          .private_key = cluster.tls().private_key(),
          .ca = cluster.tls().ca()};
}

}  // namespace orrery

#endif  // ORRERY_RPC_CLUSTER_TLS_H_
