// Certificates for tests, made with the openssl command. Header only.
//
//   std::optional<TlsFiles> tls = MakeTestCertificates("server");  // for 127.0.0.1
//   if (!tls) GTEST_SKIP() << "no openssl command";
//
// Each `authority` is a CA of its own: members with the same one trust each other. Files go to the
// test's own folder.
#ifndef ORRERY_RPC_TEST_CERTIFICATES_H_
#define ORRERY_RPC_TEST_CERTIFICATES_H_

#include <sys/stat.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "rpc/credentials.h"

namespace orrery {

inline std::optional<TlsFiles> MakeTestCertificates(const std::string& member,
                                                    const std::string& authority = "ca") {
  const std::string folder = ::testing::TempDir();
  const TlsFiles files{.certificate = absl::StrCat(folder, "/", member, ".pem"),
                       .private_key = absl::StrCat(folder, "/", member, ".key"),
                       .ca = absl::StrCat(folder, "/", authority, ".pem")};
  const std::string ca_key = absl::StrCat(folder, "/", authority, ".key");
  const std::string make =
      "openssl req -x509 -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes ";
  const auto run = [](const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  };
  struct stat info;
  if (stat(files.ca.c_str(), &info) != 0 &&
      !run(absl::StrCat(make, "-subj /CN=", authority, " -keyout '", ca_key, "' -out '", files.ca,
                        "'"))) {
    return std::nullopt;
  }
  if (!run(absl::StrCat(make, "-subj /CN=", member, " -CA '", files.ca, "' -CAkey '", ca_key,
                        "' -addext subjectAltName=IP:127.0.0.1,DNS:localhost",
                        " -addext basicConstraints=critical,CA:FALSE -keyout '", files.private_key,
                        "' -out '", files.certificate, "'"))) {
    return std::nullopt;
  }
  return files;
}

}  // namespace orrery

#endif  // ORRERY_RPC_TEST_CERTIFICATES_H_
