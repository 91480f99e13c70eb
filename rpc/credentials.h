// What a connection is secured with: mutual TLS from PEM files, or plain text without any.
//
//   TlsFiles tls{.certificate = "tls.crt", .private_key = "tls.key", .ca = "ca.crt",
//                .peers = {"spiffe://orrery/attention", "spiffe://orrery/router"}};
//   ASSIGN_OR_RETURN(auto credentials, MakeServerCredentials(tls));
//
// With TLS, both sides show a certificate signed by the CA; a peer without one, or with one that has expired, is
// refused by the handshake. One whose certificate does not name it as one of `peers` is refused by name: by a
// server, its calls with PERMISSION_DENIED; by a client, the connection, and its calls with UNAVAILABLE. Either
// logs who came and who may, now and then.
//
// Files that change are read again (tls/certificate_copies.h), for connections made from then on; those that
// are open stay. Files that were named once are watched as long as the process lives, by one thread for all
// connections.
// Errors: those of ReadTlsFiles (tls/tls_files.h).
#ifndef ORRERY_RPC_CREDENTIALS_H_
#define ORRERY_RPC_CREDENTIALS_H_

#include <memory>

#include "base/status.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "rpc/tls/tls_files.h"

namespace orrery {

// address: of the other end, for the log.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& tls, const std::string& address);
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(const TlsFiles& tls);

}  // namespace orrery

#endif  // ORRERY_RPC_CREDENTIALS_H_
