#include "rpc/cluster_tls.h"

#include <string>

#include "absl/strings/str_replace.h"
#include "proto/expert.grpc.pb.h"
#include "proto/placement.grpc.pb.h"
#include "rpc/cluster_file.h"

namespace orrery {
namespace {

TlsFiles FilesOf(const internal::ClusterFile& cluster, const std::string& role) {
  const auto path = [&](const std::string& text) {
    return absl::StrReplaceAll(text, {{"{role}", role}});
  };
  return {.certificate = path(cluster.tls().certificate()),
          .private_key = path(cluster.tls().private_key()),
          .ca = path(cluster.tls().ca())};
}

std::vector<std::string> UrisOf(const internal::ClusterFile& cluster,
                                const std::vector<internal::Role>& roles) {
  std::vector<std::string> uris;
  for (const internal::Role role : roles) {
    uris.push_back(IdentityUri(cluster.tls().trust_domain(), RoleName(role)));
  }
  return uris;
}

}  // namespace

TlsFiles MemberTls(const internal::ClusterFile& cluster, internal::Role self,
                   const std::vector<internal::Role>& peers) {
  TlsFiles tls = FilesOf(cluster, RoleName(self));
  tls.peers = UrisOf(cluster, peers);
  return tls;
}

TlsFiles ShardTls(const internal::ClusterFile& cluster) {
  TlsFiles tls =
      MemberTls(cluster, internal::ROLE_EXPERT,
                {internal::ROLE_ATTENTION, internal::ROLE_ROUTER, internal::ROLE_EXPERT});
  tls.service_peers = {
      {internal::Expert::service_full_name(), UrisOf(cluster, {internal::ROLE_ATTENTION})},
      {internal::Placement::service_full_name(), UrisOf(cluster, {internal::ROLE_ROUTER})}};
  return tls;
}

TlsFiles FrontDoorTls(const internal::ClusterFile& cluster) {
  TlsFiles tls = MemberTls(cluster, internal::ROLE_ROUTER, {});
  if (cluster.tls().client().empty()) return tls;
  tls.peers = UrisOf(cluster, {internal::ROLE_ROUTER});
  tls.peers.insert(tls.peers.end(), cluster.tls().client().begin(), cluster.tls().client().end());
  return tls;
}

TlsFiles ClientTls(const internal::ClusterFile& cluster) {
  TlsFiles tls = FilesOf(cluster, kClientRole);
  tls.peers = UrisOf(cluster, {internal::ROLE_ROUTER});
  return tls;
}

}  // namespace orrery
