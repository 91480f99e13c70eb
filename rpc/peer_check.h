// Whether the other end of a TLS connection, whose certificate the CA has signed, is one that belongs there.
// Names are URIs among the subject alternative names, and nothing else counts: addresses may change.
//
// A server looks at each call, as only then it can tell the caller: PERMISSION_DENIED with who came and who
// may. A client looks at the connection, before it says anything.
//
// Internal to rpc.
#ifndef ORRERY_RPC_PEER_CHECK_H_
#define ORRERY_RPC_PEER_CHECK_H_

#include <memory>
#include <string>
#include <vector>

#include "grpcpp/security/auth_metadata_processor.h"
#include "grpcpp/security/tls_certificate_verifier.h"

namespace orrery {

std::shared_ptr<grpc::AuthMetadataProcessor> MakeCallerCheck(std::vector<std::string> callers);

std::shared_ptr<grpc::experimental::CertificateVerifier> MakeServerVerifier(
    std::vector<std::string> servers);

}  // namespace orrery

#endif  // ORRERY_RPC_PEER_CHECK_H_
