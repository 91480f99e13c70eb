#include "tools/certs/development_certificates.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "rpc/cluster_file.h"
#include "rpc/tls/make_certificates.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 3650);
constexpr mode_t kForAll = 0644;
constexpr mode_t kForOwner = 0600;

std::vector<std::string> Roles() {
  return {RoleName(internal::ROLE_ROUTER), RoleName(internal::ROLE_ATTENTION),
          RoleName(internal::ROLE_EXPERT), kClientRole};
}

// Beside its place first, so that nobody reads half of it.
absl::Status Write(const fs::path& path, const std::string& text, mode_t mode) {
  const std::string beside = path.string() + ".new";
  const int fd = open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", beside));
  const bool is_written = fchmod(fd, mode) == 0 &&
                          write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  close(fd);
  if (!is_written) return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", beside));
  if (rename(beside.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path.string()));
}

absl::StatusOr<std::string> Read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path.string(),
                                            ": `orrery certs` without --renew makes a CA first"));
  }
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

absl::Status MakeFolder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot make ", path.string(), ": ", error.message()));
}

absl::Status IssueAll(const Credential& authority, const CertificateOptions& options) {
  CertificateRequest request = {.common_name = "",
                                .hosts = {"localhost", "127.0.0.1"},
                                .validity = Validity(options.lifetime)};
  request.hosts.insert(request.hosts.end(), options.hosts.begin(), options.hosts.end());
  for (const std::string& role : Roles()) {
    const fs::path folder = fs::path(options.folder) / role;
    request.common_name = absl::StrCat("orrery ", role);
    request.uri = IdentityUri(options.trust_domain, role);
    ASSIGN_OR_RETURN(const Credential made, Issue(authority, request));
    RETURN_IF_ERROR(MakeFolder(folder));
    RETURN_IF_ERROR(Write(folder / "tls.key", made.private_key, kForOwner));
    RETURN_IF_ERROR(Write(folder / "tls.crt", made.certificate, kForAll));
    RETURN_IF_ERROR(Write(folder / "ca.crt", authority.certificate, kForAll));
  }
  return absl::OkStatus();
}

TlsFiles FilesIn(const std::string& folder) {
  return {.certificate = absl::StrCat(folder, "/tls.crt"),
          .private_key = absl::StrCat(folder, "/tls.key"),
          .ca = absl::StrCat(folder, "/ca.crt")};
}

}  // namespace

absl::Status MakeCertificates(const CertificateOptions& options) {
  const fs::path folder = fs::path(options.folder) / "ca";
  std::error_code error;
  if (fs::exists(folder / "ca.key", error) || fs::exists(folder / "ca.crt", error)) {
    return absl::AlreadyExistsError(
        absl::StrCat("there is a CA in ", folder.string(),
                     ": --renew signs new certificates with it; for a new CA take another folder"));
  }
  ASSIGN_OR_RETURN(const Credential authority,
                   MakeAuthority("orrery development CA", Validity(kAuthorityLifetime)));
  RETURN_IF_ERROR(MakeFolder(folder));
  RETURN_IF_ERROR(Write(folder / "ca.key", authority.private_key, kForOwner));
  RETURN_IF_ERROR(Write(folder / "ca.crt", authority.certificate, kForAll));
  return IssueAll(authority, options);
}

absl::Status RenewCertificates(const CertificateOptions& options) {
  const fs::path folder = fs::path(options.folder) / "ca";
  Credential authority;
  ASSIGN_OR_RETURN(authority.certificate, Read(folder / "ca.crt"));
  ASSIGN_OR_RETURN(authority.private_key, Read(folder / "ca.key"));
  return IssueAll(authority, options);
}

internal::Tls TlsOfFolder(const std::string& folder) {
  const TlsFiles files = FilesIn(absl::StrCat(folder, "/{role}"));
  internal::Tls tls;
  tls.set_certificate(files.certificate);
  tls.set_private_key(files.private_key);
  tls.set_ca(files.ca);
  return tls;
}

TlsFiles ClientTlsOfFolder(const std::string& folder, const std::string& trust_domain) {
  const std::string made_here = absl::StrCat(folder, "/", kClientRole);
  std::error_code error;
  TlsFiles tls = FilesIn(fs::exists(fs::path(made_here) / "tls.crt", error) ? made_here : folder);
  tls.peers = {IdentityUri(trust_domain, RoleName(internal::ROLE_ROUTER))};
  return tls;
}

}  // namespace orrery
