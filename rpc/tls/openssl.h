// Owners for what OpenSSL allocates, and its last error as text.
//
//   KeyPointer key(EVP_EC_gen("P-256"));
//   if (key == nullptr) return OpenSslError("cannot make a key");
//
// Internal to rpc/tls.
#ifndef ORRERY_RPC_TLS_OPENSSL_H_
#define ORRERY_RPC_TLS_OPENSSL_H_

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace orrery {

template <auto kFree>
struct FreedBy {
  template <typename T>
  void operator()(T* thing) const {
    kFree(thing);
  }
};
using BioPointer = std::unique_ptr<BIO, FreedBy<&BIO_free_all>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, FreedBy<&EVP_PKEY_free>>;
using CertificatePointer = std::unique_ptr<X509, FreedBy<&X509_free>>;
using ExtensionPointer = std::unique_ptr<X509_EXTENSION, FreedBy<&X509_EXTENSION_free>>;

// INVALID_ARGUMENT: what failed, and why the last call of this thread did. Forgets the error.
inline absl::Status OpenSslError(std::string_view what) {
  const unsigned long code = ERR_peek_last_error();
  char reason[256];
  ERR_error_string_n(code, reason, sizeof(reason));
  ERR_clear_error();
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(what), code == 0 ? "" : ": ", code == 0 ? "" : reason));
}

}  // namespace orrery

#endif  // ORRERY_RPC_TLS_OPENSSL_H_
