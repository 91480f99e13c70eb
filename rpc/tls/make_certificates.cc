#include "rpc/tls/make_certificates.h"

#include <arpa/inet.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>  // for EVP_EC_gen
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rpc/tls/pem.h"

namespace orrery {
namespace {

constexpr int kVersion3 = 2;  // as it is written
constexpr int kSerialBytes = 16;

absl::Status SetSerial(X509& certificate) {
  unsigned char bytes[kSerialBytes];
  if (RAND_bytes(bytes, sizeof(bytes)) != 1) return OpenSslError("cannot draw a serial number");
  bytes[0] &= 0x7f;  // positive
  BIGNUM* const number = BN_bin2bn(bytes, sizeof(bytes), nullptr);
  const bool is_set =
      number != nullptr && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(&certificate));
  BN_free(number);
  return is_set ? absl::OkStatus() : OpenSslError("cannot set a serial number");
}

// A certificate of that name and key, not yet signed.
absl::StatusOr<CertificatePointer> Draft(const std::string& common_name, const Validity& validity,
                                         EVP_PKEY& key) {
  CertificatePointer certificate(X509_new());
  RETURN_IF_ERROR(SetSerial(*certificate));
  const bool is_made =
      X509_set_version(certificate.get(), kVersion3) == 1 &&
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()), absl::ToTimeT(validity.begin)) &&
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()), absl::ToTimeT(validity.end)) &&
      X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.data()),
                                 static_cast<int>(common_name.size()), -1, 0) == 1 &&
      X509_set_pubkey(certificate.get(), &key) == 1;
  if (!is_made) return OpenSslError(absl::StrCat("cannot make a certificate for ", common_name));
  return certificate;
}

struct Extension {
  int id;
  std::string value;  // as in openssl.cnf
};

// Signed by the issuer, which may be the certificate itself.
absl::Status Sign(X509& certificate, const std::vector<Extension>& extensions, X509& issuer,
                  EVP_PKEY& issuer_key) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  for (const auto& [id, value] : extensions) {
    const ExtensionPointer extension(X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
    if (extension == nullptr || X509_add_ext(&certificate, extension.get(), -1) != 1) {
      return OpenSslError(absl::StrCat("cannot add ", OBJ_nid2sn(id), " \"", value, "\""));
    }
  }
  if (X509_set_issuer_name(&certificate, X509_get_subject_name(&issuer)) != 1 ||
      X509_sign(&certificate, &issuer_key, EVP_sha256()) == 0) {
    return OpenSslError("cannot sign a certificate");
  }
  return absl::OkStatus();
}

absl::StatusOr<Credential> ToTexts(X509& certificate, EVP_PKEY& key) {
  Credential credential;
  ASSIGN_OR_RETURN(credential.certificate, ToPem(certificate));
  ASSIGN_OR_RETURN(credential.private_key, ToPem(key));
  return credential;
}

// "IP:127.0.0.1" or "DNS:localhost".
absl::StatusOr<std::string> HostName(const std::string& host) {
  unsigned char address[sizeof(in6_addr)];
  if (inet_pton(AF_INET, host.c_str(), address) == 1 ||
      inet_pton(AF_INET6, host.c_str(), address) == 1) {
    return absl::StrCat("IP:", host);
  }
  const bool is_name = !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_' || c == '*';
  });
  if (!is_name) {
    return absl::InvalidArgumentError(
        absl::StrCat("host \"", host, "\" is neither a DNS name nor an IP address"));
  }
  return absl::StrCat("DNS:", host);
}

}  // namespace

absl::StatusOr<Credential> MakeAuthority(const std::string& common_name, const Validity& validity) {
  const KeyPointer key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("cannot make a key");
  ASSIGN_OR_RETURN(const CertificatePointer certificate, Draft(common_name, validity, *key));
  RETURN_IF_ERROR(Sign(*certificate,
                       {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                        {NID_key_usage, "critical,keyCertSign,cRLSign"},
                        {NID_subject_key_identifier, "hash"}},
                       *certificate, *key));
  return ToTexts(*certificate, *key);
}

absl::StatusOr<Credential> Issue(const Credential& authority, const CertificateRequest& request) {
  ASSIGN_OR_RETURN(const CertificatePointer issuer, ParseCertificates(authority.certificate));
  ASSIGN_OR_RETURN(const KeyPointer issuer_key, ParseKey(authority.private_key));
  if (X509_check_private_key(issuer.get(), issuer_key.get()) != 1) {
    return OpenSslError("the key of the authority is not that of its certificate");
  }
  std::vector<std::string> names;
  if (request.uri.find(',') != std::string::npos) {  // where OpenSSL begins another name
    return absl::InvalidArgumentError(absl::StrCat("URI \"", request.uri, "\" has a comma"));
  }
  if (!request.uri.empty()) names.push_back(absl::StrCat("URI:", request.uri));
  for (const std::string& host : request.hosts) {
    ASSIGN_OR_RETURN(names.emplace_back(), HostName(host));
  }
  std::vector<Extension> extensions = {{NID_basic_constraints, "critical,CA:FALSE"},
                                       {NID_key_usage, "critical,digitalSignature"},
                                       {NID_ext_key_usage, "serverAuth,clientAuth"},
                                       {NID_authority_key_identifier, "keyid"}};
  if (!names.empty()) extensions.push_back({NID_subject_alt_name, absl::StrJoin(names, ",")});
  const KeyPointer key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("cannot make a key");
  ASSIGN_OR_RETURN(const CertificatePointer certificate,
                   Draft(request.common_name, request.validity, *key));
  RETURN_IF_ERROR(Sign(*certificate, extensions, *issuer, *issuer_key));
  return ToTexts(*certificate, *key);
}

}  // namespace orrery
