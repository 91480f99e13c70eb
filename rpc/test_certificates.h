// Certificates for tests. Header only.
//
//   const TlsFiles tls = MakeTestCertificates("server");  // for 127.0.0.1
//   const TlsFiles rank = MakeTestCertificates("rank", {.uri = "spiffe://orrery/attention"});
//
// Each authority is a CA of its own, made when first named: members with the same one trust each other. Files go
// to the test's own folder; those of a member that had some before take their place.
#ifndef ORRERY_RPC_TEST_CERTIFICATES_H_
#define ORRERY_RPC_TEST_CERTIFICATES_H_

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "rpc/tls/make_certificates.h"
#include "rpc/tls/tls_files.h"

namespace orrery {

struct TestCertificate {
  std::string authority = "ca";
  std::string uri = {};  // empty: none
  std::vector<std::string> hosts = {"127.0.0.1", "localhost"};
  Validity validity = Validity(absl::Hours(24));
};

inline void WriteTestFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::trunc) << text;
}

inline TlsFiles MakeTestCertificates(const std::string& member,
                                     const TestCertificate& wanted = {}) {
  static auto& authorities = *new std::map<std::string, Credential>;
  const std::string folder = ::testing::TempDir();
  const TlsFiles files{.certificate = absl::StrCat(folder, "/", member, ".crt"),
                       .private_key = absl::StrCat(folder, "/", member, ".key"),
                       .ca = absl::StrCat(folder, "/", wanted.authority, ".crt")};
  if (!authorities.contains(wanted.authority)) {
    authorities[wanted.authority] =
        MakeAuthority(wanted.authority, Validity(absl::Hours(24))).value();
    WriteTestFile(files.ca, authorities[wanted.authority].certificate);
  }
  const Credential made = Issue(authorities[wanted.authority], {.common_name = member,
                                                                .uri = wanted.uri,
                                                                .hosts = wanted.hosts,
                                                                .validity = wanted.validity})
                              .value();
  WriteTestFile(files.certificate, made.certificate);
  WriteTestFile(files.private_key, made.private_key);
  return files;
}

}  // namespace orrery

#endif  // ORRERY_RPC_TEST_CERTIFICATES_H_
