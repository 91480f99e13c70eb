// The cluster file, read and checked: who is where, which model they serve, with which numbers.
//
//   ASSIGN_OR_RETURN(internal::ClusterFile cluster, ReadClusterFile("cluster.txtpb"));
//   ASSIGN_OR_RETURN(const ClusterMember* me,
//                    FindMember(cluster, internal::ROLE_EXPERT, "expert-3"));
//   Load(ModelDir(cluster, *me));
//
// The format is proto/cluster.proto in text form. What is returned is complete and sane: defaults
// are filled in (except limits.max_context_tokens and limits.kv_cache_bytes, whose defaults only
// the model knows), folders and PEM files are resolved against the folder of the file, and every
// rule of the contract holds. It is not the running cluster: nobody is contacted and no name is
// resolved.
//
// Errors: NOT_FOUND or PERMISSION_DENIED (the file), INVALID_ARGUMENT with all problems of the file
// at once, one a line, "cluster.txtpb:4:12: what is wrong". Nothing aborts.
#ifndef ORRERY_RPC_CLUSTER_FILE_H_
#define ORRERY_RPC_CLUSTER_FILE_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "proto/cluster.pb.h"
#include "proto/member.pb.h"

namespace orrery {

using internal::ClusterMember;

absl::StatusOr<internal::ClusterFile> ReadClusterFile(const std::string& path);

// The same from its text. `origin` is the path that stands in messages and whose folder resolves
// others.
absl::StatusOr<internal::ClusterFile> ParseClusterFile(const std::string& text,
                                                       const std::string& origin);

// The member of that role and name, inside `cluster`. NOT_FOUND lists the names that there are.
absl::StatusOr<const ClusterMember*> FindMember(const internal::ClusterFile& cluster,
                                                internal::Role role, const std::string& name);

// Where this member finds the model.
const std::string& ModelDir(const internal::ClusterFile& cluster, const ClusterMember& member);

// Every member with its role: routers, attention ranks, expert shards, each in the order of the
// file.
struct RoleAndMember {
  internal::Role role = internal::ROLE_UNSPECIFIED;
  const ClusterMember* member = nullptr;
};
std::vector<RoleAndMember> AllMembers(const internal::ClusterFile& cluster);

// The cluster as its ranks and shards see it: those that retire belong to another one.
internal::ClusterFile WithoutRetiring(internal::ClusterFile cluster);

// [num shards] Which expert shards are spare: they are no expert's home (placement/placement.h).
std::vector<bool> SpareShards(const internal::ClusterFile& cluster);

// "router", "attention", "expert".
std::string RoleName(internal::Role role);

}  // namespace orrery

#endif  // ORRERY_RPC_CLUSTER_FILE_H_
