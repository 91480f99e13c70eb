// The PEM files of one end of a connection, and their texts.
//
//   TlsFiles tls{.certificate = "tls.crt", .private_key = "tls.key", .ca = "ca.crt"};
//   ASSIGN_OR_RETURN(TlsTexts texts, ReadTlsFiles(tls));
//
// What is returned fits together: the key is the certificate's. Whether the CA signed it, and whether
// it has expired, the other end judges.
// Errors: NOT_FOUND, PERMISSION_DENIED or the like, naming the file; INVALID_ARGUMENT if only some
// of the three are given, one is not PEM or too long, one of several certificates cannot be read, or the key is
// another certificate's.
#ifndef ORRERY_RPC_TLS_TLS_FILES_H_
#define ORRERY_RPC_TLS_TLS_FILES_H_

#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace orrery {

struct TlsFiles {
  // Paths: all three, or none for plain text.
  std::string certificate;  // with its chain, if it has one
  std::string private_key;
  std::string ca;  // one or several, of whom the other end must have its certificate
  // Who may be at the other end: URIs of which its certificate must name one. Empty: a server takes whoever
  // has a certificate of the CA, a client checks the host name that it connected to.
  std::vector<std::string> peers = {};
  // Of a server: who may call a service, by its full name, where it is not for all of `peers`.
  std::map<std::string, std::vector<std::string>> service_peers = {};

  bool empty() const { return certificate.empty() && private_key.empty() && ca.empty(); }
};

struct TlsTexts {
  std::string certificate, private_key, ca;
  bool operator==(const TlsTexts&) const = default;
};

absl::StatusOr<TlsTexts> ReadTlsFiles(const TlsFiles& files);

// "spiffe://orrery/expert, valid until 2026-12-31T..." for log lines.
std::string DescribeCertificate(const std::string& pem);
// Whether it is valid by this machine's clock; FAILED_PRECONDITION, with the above, if not.
absl::Status CheckIsValidNow(const std::string& pem);

// How certificates name their bearer: "spiffe://orrery/expert".
std::string IdentityUri(const std::string& trust_domain, const std::string& role);
inline constexpr char kDefaultTrustDomain[] = "orrery";
// INVALID_ARGUMENT, which names the limits, if it may not stand in such a URI.
absl::Status CheckTrustDomain(const std::string& name);
// The role of those who ask routers.
inline constexpr char kClientRole[] = "client";

}  // namespace orrery

#endif  // ORRERY_RPC_TLS_TLS_FILES_H_
