#include "rpc/credentials.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace orrery {
namespace {

// Certificates with their chains take some kilobytes; a file of this size is something else.
constexpr size_t kMaxPemBytes = 1024 * 1024;

absl::StatusOr<std::string> ReadPem(const std::string& path, std::string_view what) {
  const auto error = [&](int number) {
    return absl::ErrnoToStatus(
        number, absl::StrCat("cannot read the ", std::string(what), " \"", path, "\""));
  };
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return error(errno);
  std::string text(kMaxPemBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  const int read_error = std::ferror(file) ? errno : 0;
  std::fclose(file);
  if (read_error != 0) return error(read_error);
  if (text.size() > kMaxPemBytes || text.find("-----BEGIN ") == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", std::string(what), " \"", path, "\" is not a PEM file"));
  }
  return text;
}

struct TlsTexts {
  std::string certificate, private_key, ca;
};

absl::StatusOr<TlsTexts> ReadAll(const TlsFiles& tls) {
  if (tls.certificate.empty() || tls.private_key.empty() || tls.ca.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "TLS needs certificate, private_key and ca, or none of them; given: certificate \"",
        tls.certificate, "\", private_key \"", tls.private_key, "\", ca \"", tls.ca, "\""));
  }
  TlsTexts texts;
  ASSIGN_OR_RETURN(texts.certificate, ReadPem(tls.certificate, "certificate"));
  ASSIGN_OR_RETURN(texts.private_key, ReadPem(tls.private_key, "private key"));
  ASSIGN_OR_RETURN(texts.ca, ReadPem(tls.ca, "CA certificate"));
  return texts;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& tls) {
  if (tls.empty()) return grpc::InsecureChannelCredentials();
  ASSIGN_OR_RETURN(const TlsTexts texts, ReadAll(tls));
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = texts.ca;
  options.pem_private_key = texts.private_key;
  options.pem_cert_chain = texts.certificate;
  return grpc::SslCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& tls) {
  if (tls.empty()) return grpc::InsecureServerCredentials();
  ASSIGN_OR_RETURN(const TlsTexts texts, ReadAll(tls));
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = texts.ca;
  options.pem_key_cert_pairs.push_back({texts.private_key, texts.certificate});
  return grpc::SslServerCredentials(options);
}

}  // namespace orrery
