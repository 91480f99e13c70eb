#include "tools/certs_command.h"

#include <cstdint>
#include <cstdio>
#include <filesystem>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "tools/certs/development_certificates.h"
#include "tools/flags/command_line.h"
#include "tools/flags/out_flag.h"
#include "tools/flags/tls_flags.h"
#include "tools/terminal.h"

ABSL_FLAG(
    std::vector<std::string>, hosts, {},
    "DNS names and IP addresses that certificates hold beside localhost and 127.0.0.1, for clients "
    "that check host names; ours check the role. --renew needs them again");
ABSL_FLAG(int64_t, days, 365, "how long certificates are valid, 1 to 3650; the CA has ten years");
ABSL_FLAG(bool, renew, false,
          "sign new certificates with the CA that is there; members take them as they run");

namespace orrery {
namespace {

constexpr int64_t kMaxDays = 3650;

absl::StatusOr<CertificateOptions> OptionsFromFlags() {
  CertificateOptions options;
  if (absl::GetFlag(FLAGS_out).empty()) {
    return absl::InvalidArgumentError("say --out=DIR, where the certificates are to be");
  }
  options.folder = std::filesystem::absolute(absl::GetFlag(FLAGS_out)).lexically_normal().string();
  options.trust_domain = absl::GetFlag(FLAGS_trust_domain);
  options.hosts = absl::GetFlag(FLAGS_hosts);
  const int64_t days = absl::GetFlag(FLAGS_days);
  if (days < 1 || days > kMaxDays) {
    return absl::InvalidArgumentError(
        absl::StrCat("--days is ", days, ", must be 1 to ", kMaxDays));
  }
  options.lifetime = absl::Hours(24 * days);
  return options;
}

std::string Explanation(const CertificateOptions& options) {
  const internal::Tls tls = TlsOfFolder(options.folder);
  return absl::StrCat(
      options.folder, "/{router,attention,expert,client}: tls.crt, tls.key, ca.crt\n",
      options.folder, "/ca/ca.key: keep it to yourself; it is needed for --renew only\n\n",
      "for the cluster file:\n  tls {\n    certificate: \"", tls.certificate(),
      "\"\n    private_key: \"", tls.private_key(), "\"\n    ca: \"", tls.ca(), "\"\n",
      options.trust_domain == kDefaultTrustDomain
          ? ""
          : absl::StrCat("    trust_domain: \"", options.trust_domain, "\"\n"),
      "  }\non this machine: orrery up --tls=", options.folder, "\n");
}

absl::Status Certs() {
  RETURN_IF_ERROR(AllowOnly("certs", {"out", "trust_domain", "hosts", "days", "renew"}));
  ASSIGN_OR_RETURN(const CertificateOptions options, OptionsFromFlags());
  const bool renew = absl::GetFlag(FLAGS_renew);
  RETURN_IF_ERROR(renew ? RenewCertificates(options) : MakeCertificates(options));
  Terminal(stdout).Print(renew ? "renewed " : "made ", Explanation(options));
  return absl::OkStatus();
}

}  // namespace

int RunCerts(const std::vector<std::string>&) {
  const absl::Status status = Certs();
  if (status.ok()) return 0;
  return Fail("certs", status);
}

}  // namespace orrery
