#include "rpc/credentials.h"

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/time/clock.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "rpc/peer_check.h"
#include "rpc/tls/certificate_copies.h"

namespace orrery {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

// How often gRPC looks at the copies, and we at the files. More than a second lies between two changes of the copies:
// gRPC notices that the certificate was replaced while it read the key by times of change in whole seconds.
constexpr unsigned kProviderLookSeconds = 1;
constexpr absl::Duration kLookInterval = absl::Milliseconds(1100);

// All TLS files of this process, each read by one provider. gRPC keeps a provider for as long as any connection
// might still ask it, and tells nobody when that ends; so there is no end here.
class Providers {
 public:
  static Providers& OfProcess() {
    static Providers& providers = *new Providers;
    return providers;
  }

  absl::StatusOr<std::shared_ptr<FileWatcherCertificateProvider>> Get(const TlsFiles& files) {
    std::lock_guard lock(mutex_);
    const auto key = std::make_tuple(files.certificate, files.private_key, files.ca);
    if (const auto known = all_.find(key); known != all_.end()) return known->second.provider;
    Entry entry;
    ASSIGN_OR_RETURN(entry.copies, CertificateCopies::Make(files));
    const TlsFiles paths = entry.copies->paths();
    entry.provider = std::make_shared<FileWatcherCertificateProvider>(
        paths.private_key, paths.certificate, paths.ca, kProviderLookSeconds);
    if (all_.empty()) std::thread([this] { LookForever(); }).detach();
    return all_.emplace(key, std::move(entry)).first->second.provider;
  }

 private:
  struct Entry {
    std::unique_ptr<CertificateCopies> copies;
    std::shared_ptr<FileWatcherCertificateProvider> provider;
  };

  void LookForever() {
    while (true) {
      absl::SleepFor(kLookInterval);
      std::lock_guard lock(mutex_);
      for (auto& [key, entry] : all_) entry.copies->Look();
    }
  }

  std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, std::string>, Entry> all_;  // guarded by mutex_
};

void WatchAll(grpc::experimental::TlsCredentialsOptions& options) {
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& tls, const std::string& address) {
  if (tls.empty()) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions options;
  ASSIGN_OR_RETURN(const auto provider, Providers::OfProcess().Get(tls));
  options.set_certificate_provider(provider);
  WatchAll(options);
  if (!tls.peers.empty()) {
    options.set_certificate_verifier(MakeServerVerifier(address, tls.peers));
    options.set_check_call_host(false);
  }
  return grpc::experimental::TlsCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& tls) {
  if (tls.empty()) return grpc::InsecureServerCredentials();
  ASSIGN_OR_RETURN(const auto provider, Providers::OfProcess().Get(tls));
  grpc::experimental::TlsServerCredentialsOptions options(provider);
  WatchAll(options);
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  std::shared_ptr<grpc::ServerCredentials> credentials =
      grpc::experimental::TlsServerCredentials(options);
  if (!tls.peers.empty()) {
    credentials->SetAuthMetadataProcessor(MakeCallerCheck(tls.peers, tls.service_peers));
  }
  return credentials;
}

}  // namespace orrery
