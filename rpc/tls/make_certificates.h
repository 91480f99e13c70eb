// Makes certificates: a certificate authority of one's own and what it signs. For development and tests; in
// production something else issues them, such as cert-manager.
//
//   ASSIGN_OR_RETURN(Credential authority, MakeAuthority("my CA", Validity(absl::Hours(24))));
//   ASSIGN_OR_RETURN(Credential expert,
//                    Issue(authority, {.common_name = "expert",
//                                      .uri = IdentityUri("orrery", "expert"),
//                                      .hosts = {"localhost", "127.0.0.1"},
//                                      .validity = Validity(absl::Hours(24))}));
//
// Keys are of curve P-256. What is issued serves both ends of a connection.
// Errors: INVALID_ARGUMENT for a host that is neither a DNS name nor an IP address, an authority that cannot be read,
// or what OpenSSL refuses.
#ifndef ORRERY_RPC_TLS_MAKE_CERTIFICATES_H_
#define ORRERY_RPC_TLS_MAKE_CERTIFICATES_H_

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace orrery {

// PEM texts.
struct Credential {
  std::string certificate;
  std::string private_key;
};

struct Validity {
  // From five minutes ago, as clocks differ, until then.
  explicit Validity(absl::Duration lifetime)
      : begin(absl::Now() - absl::Minutes(5)), end(absl::Now() + lifetime) {}
  Validity(absl::Time begin, absl::Time end) : begin(begin), end(end) {}

  absl::Time begin, end;
};

struct CertificateRequest {
  std::string common_name;
  std::string uri = {};                 // empty: none
  std::vector<std::string> hosts = {};  // DNS names and IP addresses
  Validity validity;
};

absl::StatusOr<Credential> MakeAuthority(const std::string& common_name, const Validity& validity);
absl::StatusOr<Credential> Issue(const Credential& authority, const CertificateRequest& request);

}  // namespace orrery

#endif  // ORRERY_RPC_TLS_MAKE_CERTIFICATES_H_
