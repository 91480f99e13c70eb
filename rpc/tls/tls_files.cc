#include "rpc/tls/tls_files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rpc/tls/pem.h"

namespace orrery {
namespace {

// Certificates with their chains take some kilobytes; a file of this size is something else.
constexpr size_t kMaxPemBytes = 1024 * 1024;

std::string Named(std::string_view what, const std::string& path) {
  return absl::StrCat("the ", std::string(what), " \"", path, "\"");
}

absl::StatusOr<std::string> ReadPem(const std::string& path, std::string_view what) {
  const auto error = [&](int number) {
    return absl::ErrnoToStatus(number, absl::StrCat("cannot read ", Named(what, path)));
  };
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return error(errno);
  std::string text(kMaxPemBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  const int read_error = std::ferror(file) ? errno : 0;
  std::fclose(file);
  if (read_error != 0) return error(read_error);
  if (text.size() > kMaxPemBytes || text.find("-----BEGIN ") == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(Named(what, path), " is not a PEM file"));
  }
  return text;
}

absl::Status About(std::string_view what, const std::string& path, const absl::Status& problem) {
  return absl::InvalidArgumentError(absl::StrCat(Named(what, path), " ", problem.message()));
}

absl::Status CheckTexts(const TlsTexts& texts, const TlsFiles& files) {
  const absl::StatusOr<CertificatePointer> certificate = ParseCertificate(texts.certificate);
  if (!certificate.ok()) return About("certificate", files.certificate, certificate.status());
  const absl::StatusOr<KeyPointer> key = ParseKey(texts.private_key);
  if (!key.ok()) return About("private key", files.private_key, key.status());
  const absl::StatusOr<CertificatePointer> ca = ParseCertificate(texts.ca);
  if (!ca.ok()) return About("CA certificate", files.ca, ca.status());
  if (X509_check_private_key(certificate->get(), key->get()) == 1) return absl::OkStatus();
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(Named("private key", files.private_key),
                                                 " is not that of ",
                                                 Named("certificate", files.certificate)));
}

}  // namespace

absl::StatusOr<TlsTexts> ReadTlsFiles(const TlsFiles& files) {
  if (files.certificate.empty() || files.private_key.empty() || files.ca.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "TLS needs certificate, private_key and ca, or none of them; given: certificate \"",
        files.certificate, "\", private_key \"", files.private_key, "\", ca \"", files.ca, "\""));
  }
  TlsTexts texts;
  ASSIGN_OR_RETURN(texts.certificate, ReadPem(files.certificate, "certificate"));
  ASSIGN_OR_RETURN(texts.private_key, ReadPem(files.private_key, "private key"));
  ASSIGN_OR_RETURN(texts.ca, ReadPem(files.ca, "CA certificate"));
  RETURN_IF_ERROR(CheckTexts(texts, files));
  return texts;
}

std::string DescribeCertificate(const std::string& pem) {
  const absl::StatusOr<CertificatePointer> certificate = ParseCertificate(pem);
  if (!certificate.ok()) return std::string(certificate.status().message());
  const std::vector<std::string> uris = UrisOf(**certificate);
  return absl::StrCat(uris.empty() ? "no URI" : absl::StrJoin(uris, " "), ", valid until ",
                      absl::FormatTime(ExpiryOf(**certificate), absl::UTCTimeZone()));
}

std::string IdentityUri(const std::string& trust_domain, const std::string& role) {
  return absl::StrCat("spiffe://", trust_domain, "/", role);
}

}  // namespace orrery
