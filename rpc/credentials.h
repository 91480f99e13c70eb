// What a connection is secured with: mutual TLS from PEM files, or plain text without any.
//
//   TlsFiles tls{.certificate = "expert-0.pem", .private_key = "expert-0.key", .ca = "ca.pem"};
//   ASSIGN_OR_RETURN(auto credentials, MakeServerCredentials(tls));
//
// With TLS, both sides show a certificate signed by the CA; a peer without one is refused by the
// handshake. Files are read once, here.
// Errors: NOT_FOUND, PERMISSION_DENIED or the like, naming the file; INVALID_ARGUMENT if only some
// of the three are given, or one is not PEM.
#ifndef ORRERY_RPC_CREDENTIALS_H_
#define ORRERY_RPC_CREDENTIALS_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace orrery {

// Paths of PEM files: all three, or none for plain text.
struct TlsFiles {
  std::string certificate;
  std::string private_key;
  std::string ca;
  bool empty() const { return certificate.empty() && private_key.empty() && ca.empty(); }
};

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& tls);
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(const TlsFiles& tls);

}  // namespace orrery

#endif  // ORRERY_RPC_CREDENTIALS_H_
