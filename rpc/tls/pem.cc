#include "rpc/tls/pem.h"

#include <openssl/crypto.h>

#include <ctime>

namespace orrery {
namespace {

// Threads that watch files use OpenSSL until the process is gone; its cleanup at exit would take it away beneath them,
// and end the process with a signal. Before main, as only its first user can say so.
[[maybe_unused]] const int kNoCleanup = OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr);

BioPointer ReaderOf(const std::string& text) {
  return BioPointer(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, size);
}

}  // namespace

absl::StatusOr<CertificatePointer> ParseCertificates(const std::string& pem) {
  ERR_clear_error();
  const BioPointer reader = ReaderOf(pem);
  const auto next = [&reader] {
    return CertificatePointer(PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr));
  };
  CertificatePointer first = next();
  if (first == nullptr) return OpenSslError("holds no certificate");
  while (next() != nullptr) {
  }
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return OpenSslError("holds one behind the first that cannot be read");
  }
  ERR_clear_error();
  return first;
}

absl::StatusOr<KeyPointer> ParseKey(const std::string& pem) {
  const BioPointer reader = ReaderOf(pem);
  // An empty passphrase, lest OpenSSL asks at the terminal.
  KeyPointer key(PEM_read_bio_PrivateKey(reader.get(), nullptr, nullptr, const_cast<char*>("")));
  if (key == nullptr) return OpenSslError("holds no private key without a passphrase");
  return key;
}

absl::StatusOr<std::string> ToPem(X509& certificate) {
  const BioPointer writer(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(writer.get(), &certificate) != 1) {
    return OpenSslError("cannot write a certificate");
  }
  return TextOf(writer.get());
}

absl::StatusOr<std::string> ToPem(EVP_PKEY& key) {
  const BioPointer writer(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(writer.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) !=
      1) {
    return OpenSslError("cannot write a private key");
  }
  return TextOf(writer.get());
}

std::vector<std::string> UrisOf(X509& certificate) {
  std::vector<std::string> uris;
  auto* const names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {  // none if null
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* const uri = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                      ASN1_STRING_length(uri));
  }
  GENERAL_NAMES_free(names);
  return uris;
}

absl::Time ExpiryOf(X509& certificate) {
  std::tm expiry = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &expiry) != 1) return absl::InfinitePast();
  return absl::FromTM(expiry, absl::UTCTimeZone());
}

}  // namespace orrery
