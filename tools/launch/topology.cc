#include "tools/launch/topology.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "rpc/address.h"

namespace orrery {
namespace {

constexpr int kMinPort = 10000;
constexpr int kMaxPort = 32000;

// Whether a listener could have this address. A listening socket of another process makes it false;
// the traces that closed connections leave do not.
bool CanBind(const sockaddr* address, socklen_t length) {
  const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool can_bind = bind(fd, address, length) == 0;
  close(fd);
  return can_bind;
}

bool IsFree(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return CanBind(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

}  // namespace

absl::StatusOr<internal::ClusterFile> MakeLocalCluster(const Topology& topology) {
  if (topology.num_routers < 1 || topology.num_ranks < 1 || topology.num_shards < 0 ||
      topology.num_spare_shards < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a cluster of ", topology.num_routers, " routers, ", topology.num_ranks,
                     " ranks, ", topology.num_shards, " shards and ", topology.num_spare_shards,
                     " spare ones: at least one router and one rank are needed, and no negative "
                     "number of shards"));
  }
  std::error_code error;
  const std::filesystem::path dir = std::filesystem::canonical(topology.model_dir, error);
  if (error) {
    return absl::NotFoundError(
        absl::StrCat("model directory \"", topology.model_dir, "\": ", error.message()));
  }
  ASSIGN_OR_RETURN(const std::vector<int> ports,
                   PickFreePorts(topology.num_routers + topology.num_ranks + topology.num_shards +
                                 topology.num_spare_shards));
  internal::ClusterFile cluster;
  cluster.mutable_model()->set_name(topology.model_name.empty() ? dir.filename().string()
                                                                : topology.model_name);
  cluster.mutable_model()->set_dir(dir.string());
  *cluster.mutable_numerics() = topology.numerics;
  *cluster.mutable_limits() = topology.limits;
  cluster.set_exchange(topology.exchange);
  if (!topology.tls.certificate().empty()) *cluster.mutable_tls() = topology.tls;
  size_t next_port = 0, next_gpu = 0;
  const auto fill = [&](internal::ClusterMember* member, const std::string& role, int index) {
    member->set_name(absl::StrCat(role, "-", index));
    member->set_address(absl::StrCat("127.0.0.1:", ports[next_port++]));
  };
  for (int i = 0; i < topology.num_routers; ++i) fill(cluster.add_router(), "router", i);
  const auto fill_computing = [&](internal::ClusterMember* member, const std::string& role,
                                  int index) {
    fill(member, role, index);
    member->set_num_threads(topology.num_threads);
    member->set_gpu(topology.gpus[next_gpu++ % topology.gpus.size()]);
  };
  for (int i = 0; i < topology.num_ranks; ++i) {
    fill_computing(cluster.add_attention(), "attention", i);
  }
  for (int i = 0; i < topology.num_shards + topology.num_spare_shards; ++i) {
    internal::ClusterMember* const shard = cluster.add_expert();
    fill_computing(shard, "expert", i);
    shard->set_spare(i >= topology.num_shards);
  }
  return cluster;
}

absl::Status WriteClusterFile(const internal::ClusterFile& cluster, const std::string& path) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(cluster, &text);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int>> PickFreePorts(int num_ports) {
  std::mt19937 random{std::random_device{}()};
  std::uniform_int_distribution<int> draw(kMinPort, kMaxPort);
  std::vector<int> ports;
  for (int tries = 0; tries < kMaxPort - kMinPort; ++tries) {
    if (static_cast<int>(ports.size()) >= num_ports) return ports;
    const int port = draw(random);
    if (std::find(ports.begin(), ports.end(), port) == ports.end() && IsFree(port)) {
      ports.push_back(port);
    }
  }
  return absl::ResourceExhaustedError(absl::StrCat("found only ", ports.size(), " of ", num_ports,
                                                   " free ports from ", kMinPort, " to ",
                                                   kMaxPort));
}

bool IsOnThisMachine(const std::string& address) {
  const absl::StatusOr<HostPort> target = ParseHostPort(address);
  if (!target.ok()) return false;
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(target->host.c_str(), "0", &hints, &found) != 0) return false;
  bool is_here = false;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    is_here = is_here || CanBind(info->ai_addr, info->ai_addrlen);
  }
  freeaddrinfo(found);
  return is_here;
}

}  // namespace orrery
