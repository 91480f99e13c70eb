// Whether the other end of a TLS connection, whose certificate the CA has signed, is one that belongs there.
// Names are URIs among the subject alternative names, and nothing else counts: addresses may change.
//
// A server looks at each call, as only then it can tell the caller: PERMISSION_DENIED with who came and who
// may. A client looks at the connection, before it says anything.
//
// Internal to rpc.
#ifndef ORRERY_RPC_PEER_CHECK_H_
#define ORRERY_RPC_PEER_CHECK_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "grpcpp/security/auth_metadata_processor.h"
#include "grpcpp/security/tls_certificate_verifier.h"

namespace orrery {

// service_callers: instead of `callers`, for calls of the services that are named.
std::shared_ptr<grpc::AuthMetadataProcessor> MakeCallerCheck(
    std::vector<std::string> callers,
    std::map<std::string, std::vector<std::string>> service_callers);

// address: of the server, for the log; gRPC tells its host only.
std::shared_ptr<grpc::experimental::CertificateVerifier> MakeServerVerifier(
    std::string address, std::vector<std::string> servers);

}  // namespace orrery

#endif  // ORRERY_RPC_PEER_CHECK_H_
