// The TLS of a cluster's members and clients, from its cluster file: which files they show, and whom they
// expect at the other end.
//
//   server_options.tls = MemberTls(cluster, ROLE_ATTENTION, {ROLE_ROUTER});               // it calls
//   MakeChannel(shard.address(), MemberTls(cluster, ROLE_ATTENTION, {ROLE_EXPERT}));      // it is called
//
// Without tls in the file, what they return is empty: plain text.
#ifndef ORRERY_RPC_CLUSTER_TLS_H_
#define ORRERY_RPC_CLUSTER_TLS_H_

#include <vector>

#include "proto/cluster.pb.h"
#include "proto/member.pb.h"
#include "rpc/tls/tls_files.h"

namespace orrery {

// Of a member, for connections whose other end is a member with one of these roles.
TlsFiles MemberTls(const internal::ClusterFile& cluster, internal::Role self,
                   const std::vector<internal::Role>& peers);

// Of a shard's server: ranks bring rows, routers place copies, and shards that hold copies ask who is back.
TlsFiles ShardTls(const internal::ClusterFile& cluster);

// Of a router's server: routers may call, and the file's clients.
TlsFiles FrontDoorTls(const internal::ClusterFile& cluster);

// Of a client, towards routers.
TlsFiles ClientTls(const internal::ClusterFile& cluster);

}  // namespace orrery

#endif  // ORRERY_RPC_CLUSTER_TLS_H_
