#include "tools/flags/connect.h"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "rpc/address.h"
#include "rpc/cluster_file.h"
#include "rpc/cluster_tls.h"
#include "tools/certs/development_certificates.h"
#include "tools/flags/places.h"
#include "tools/flags/tls_flags.h"

ABSL_FLAG(std::vector<std::string>, router, {},
          "host:port of the router, or of several of one cluster: a,b; empty: that of the last "
          "`orrery up`");
ABSL_FLAG(std::string, cluster, "", "cluster file: says the routers' addresses and the TLS files");

ABSL_FLAG(std::string, router_file, "",
          "file in which `up` leaves the router's address; empty: .orrery/router of the checkout");

namespace orrery {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);

std::string RouterFile() {
  const std::string path = absl::GetFlag(FLAGS_router_file);
  return path.empty() ? RouterAddressFile() : path;
}

struct Remembered {
  std::string address;
  std::string cluster_path;
};

Remembered RememberedRouter() {
  Remembered remembered;
  std::ifstream file(RouterFile());
  std::getline(file, remembered.address);
  std::getline(file, remembered.cluster_path);
  return remembered;
}

// An empty one if no flag names one and none is remembered.
absl::StatusOr<internal::ClusterFile> KnownCluster() {
  std::string path = absl::GetFlag(FLAGS_cluster);
  if (path.empty() && absl::GetFlag(FLAGS_router).empty()) path = RememberedRouter().cluster_path;
  return path.empty() ? internal::ClusterFile() : ReadClusterFile(path);
}

absl::Status CheckPlainText(const std::vector<std::string>& addresses, const TlsFiles& tls) {
  if (!tls.empty() || absl::GetFlag(FLAGS_allow_plain_text)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const internal::ClusterFile cluster, KnownCluster());
  if (cluster.allow_plain_text()) return absl::OkStatus();
  for (const std::string& address : addresses) {
    ASSIGN_OR_RETURN(const HostPort router, ParseHostPort(address));
    if (IsLoopback(router)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("without TLS everybody on the way to ", address,
                     " could read along: say --tls=DIR, or --allow_plain_text"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OrreryClient> ConnectFromFlags() {
  std::vector<std::string> addresses = absl::GetFlag(FLAGS_router);
  if (const std::string path = absl::GetFlag(FLAGS_cluster); addresses.empty() && !path.empty()) {
    ASSIGN_OR_RETURN(const internal::ClusterFile cluster, ReadClusterFile(path));
    for (const ClusterMember& router : cluster.router()) addresses.push_back(router.address());
  }
  if (addresses.empty()) {
    const std::string remembered = RememberedRouter().address;
    if (!remembered.empty()) addresses.push_back(remembered);
  }
  if (addresses.empty()) {
    return absl::NotFoundError(
        "no cluster is known: start one with `orrery up`, or say --router=HOST:PORT");
  }
  ASSIGN_OR_RETURN(const TlsFiles tls, TlsFromFlags());
  RETURN_IF_ERROR(CheckPlainText(addresses, tls));
  return OrreryClient::Connect(addresses, tls, kConnectTimeout);
}

absl::StatusOr<TlsFiles> TlsFromFlags() {
  if (const std::string folder = absl::GetFlag(FLAGS_tls); !folder.empty()) {
    return ClientTlsOfFolder(folder, absl::GetFlag(FLAGS_trust_domain));
  }
  ASSIGN_OR_RETURN(const internal::ClusterFile cluster, KnownCluster());
  return ClientTls(cluster);
}

absl::Status RememberRouter(const std::string& address, const std::string& cluster_path) {
  const std::filesystem::path path = RouterFile();
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  std::ofstream file(path, std::ios::trunc);
  file << address << "\n" << cluster_path << "\n";
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path.string()));
  return absl::OkStatus();
}

void ForgetRouter(const std::string& address) {
  // A later `up` may have put its own there.
  if (RememberedRouter().address != address) return;
  std::error_code ignored;
  std::filesystem::remove(RouterFile(), ignored);
}

}  // namespace orrery
