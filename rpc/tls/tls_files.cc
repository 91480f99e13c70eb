#include "rpc/tls/tls_files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "absl/strings/ascii.h"
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
  if (text.size() > kMaxPemBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(Named(what, path), " is longer than ", kMaxPemBytes, " bytes"));
  }
  if (text.find("-----BEGIN ") == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(Named(what, path), " is not a PEM file"));
  }
  return text;
}

absl::Status About(std::string_view what, const std::string& path, const absl::Status& problem) {
  return absl::InvalidArgumentError(absl::StrCat(Named(what, path), " ", problem.message()));
}

absl::Status CheckTexts(const TlsTexts& texts, const TlsFiles& files) {
  const absl::StatusOr<CertificatePointer> certificate = ParseCertificates(texts.certificate);
  if (!certificate.ok()) return About("certificate", files.certificate, certificate.status());
  const absl::StatusOr<KeyPointer> key = ParseKey(texts.private_key);
  if (!key.ok()) return About("private key", files.private_key, key.status());
  const absl::StatusOr<CertificatePointer> ca = ParseCertificates(texts.ca);
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
  const absl::StatusOr<CertificatePointer> certificate = ParseCertificates(pem);
  if (!certificate.ok()) return std::string(certificate.status().message());
  const std::vector<std::string> uris = UrisOf(**certificate);
  return absl::StrCat(uris.empty() ? "no URI" : absl::StrJoin(uris, " "), ", valid until ",
                      absl::FormatTime(ExpiryOf(**certificate), absl::UTCTimeZone()));
}

absl::Status CheckIsValidNow(const std::string& pem) {
  ASSIGN_OR_RETURN(const CertificatePointer certificate, ParseCertificates(pem));
  if (X509_cmp_current_time(X509_get0_notBefore(certificate.get())) < 0 &&
      X509_cmp_current_time(X509_get0_notAfter(certificate.get())) > 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the certificate is not valid now: ", DescribeCertificate(pem)));
}

absl::Status CheckTrustDomain(const std::string& name) {
  constexpr size_t kMaxBytes = 255;
  const bool is_good =
      !name.empty() && name.size() <= kMaxBytes &&
      std::all_of(name.begin(), name.end(), [](char c) {
        return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '.' || c == '-' || c == '_';
      });
  if (is_good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("bad trust domain \"", name, "\": 1 to ",
                                                 kMaxBytes,
                                                 " small letters, digits, '.', '-' and '_'"));
}

std::string IdentityUri(const std::string& trust_domain, const std::string& role) {
  return absl::StrCat("spiffe://", trust_domain, "/", role);
}

}  // namespace orrery
