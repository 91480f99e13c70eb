// A development CA and what it signed, as folders:
//
//   DIR/ca/ca.crt, ca.key          the CA; its key is needed to renew, by nobody else
//   DIR/router/tls.crt, tls.key, ca.crt      and attention/, expert/, client/: what each role needs,
//                                  under the names that a secret of cert-manager has
//
//   RETURN_IF_ERROR(MakeCertificates({.folder = "tls"}));
//   RETURN_IF_ERROR(RenewCertificates({.folder = "tls"}));      // the same CA; members take them as they run
//   *cluster.mutable_tls() = TlsOfFolder("tls");
//
// Keys are readable for their owner only. A file takes another's place at once.
// Errors: ALREADY_EXISTS if there is a CA, NOT_FOUND if there is none to renew with, FAILED_PRECONDITION if what is there
// has other names than the renewed ones would have, which running members refuse; what the system says of files that
// cannot be read or written, and those of rpc/tls/make_certificates.h and CheckTrustDomain. What was refused leaves
// nothing new behind.
#ifndef ORRERY_TOOLS_CERTS_DEVELOPMENT_CERTIFICATES_H_
#define ORRERY_TOOLS_CERTS_DEVELOPMENT_CERTIFICATES_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "proto/cluster.pb.h"
#include "rpc/tls/tls_files.h"

namespace orrery {

struct CertificateOptions {
  std::string folder;
  std::string trust_domain = kDefaultTrustDomain;
  // Beside localhost and 127.0.0.1: for clients that check host names. Ours check the role. Of no certificate that
  // was there before.
  std::vector<std::string> hosts = {};
  absl::Duration lifetime = absl::Hours(24 * 365);  // of what is signed; the CA has ten years
};

absl::Status MakeCertificates(const CertificateOptions& options);
absl::Status RenewCertificates(const CertificateOptions& options);

// For a cluster file, with {role} in the paths.
internal::Tls TlsOfFolder(const std::string& folder);

// Of a client: folder/client as made here, else the folder itself.
TlsFiles ClientTlsOfFolder(const std::string& folder, const std::string& trust_domain);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CERTS_DEVELOPMENT_CERTIFICATES_H_
