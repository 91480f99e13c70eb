// Certificates and keys as PEM text: read and looked at.
//
//   ASSIGN_OR_RETURN(CertificatePointer certificate, ParseCertificates(text));
//   UrisOf(*certificate)          // {"spiffe://orrery/expert"}
//
// Errors: INVALID_ARGUMENT with what OpenSSL says.
#ifndef ORRERY_RPC_TLS_PEM_H_
#define ORRERY_RPC_TLS_PEM_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "rpc/tls/openssl.h"

namespace orrery {

// The first one of a chain or bundle, in which all can be read.
absl::StatusOr<CertificatePointer> ParseCertificates(const std::string& pem);
// Without a passphrase; nobody is asked for one.
absl::StatusOr<KeyPointer> ParseKey(const std::string& pem);

absl::StatusOr<std::string> ToPem(X509& certificate);
absl::StatusOr<std::string> ToPem(EVP_PKEY& key);

// The URIs among its subject alternative names.
std::vector<std::string> UrisOf(X509& certificate);
absl::Time ExpiryOf(X509& certificate);

}  // namespace orrery

#endif  // ORRERY_RPC_TLS_PEM_H_
