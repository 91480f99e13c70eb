#include "tools/certs/development_certificates.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
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
  errno = EIO;  // what a short write leaves
  const bool is_written = fchmod(fd, mode) == 0 &&
                          write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  close(fd);
  if (!is_written) return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", beside));
  if (rename(beside.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path.string()));
}

absl::StatusOr<std::string> Read(const fs::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file && errno != ENOENT) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path.string()));
  }
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

struct Issued {
  std::string role;
  Credential credential;
};

// Nothing is written yet.
absl::StatusOr<std::vector<Issued>> IssueAll(const Credential& authority,
                                             const CertificateOptions& options) {
  RETURN_IF_ERROR(CheckTrustDomain(options.trust_domain));
  CertificateRequest request = {.common_name = "",
                                .hosts = {"localhost", "127.0.0.1"},
                                .validity = Validity(options.lifetime)};
  request.hosts.insert(request.hosts.end(), options.hosts.begin(), options.hosts.end());
  std::vector<Issued> all;
  for (const std::string& role : Roles()) {
    request.common_name = absl::StrCat("orrery ", role);
    request.uri = IdentityUri(options.trust_domain, role);
    ASSIGN_OR_RETURN(Credential credential, Issue(authority, request));
    all.push_back({role, std::move(credential)});
  }
  return all;
}

absl::Status WriteAll(const std::vector<Issued>& all, const Credential& authority,
                      const fs::path& root) {
  for (const auto& [role, credential] : all) {
    const fs::path folder = root / role;
    RETURN_IF_ERROR(MakeFolder(folder));
    RETURN_IF_ERROR(Write(folder / "tls.key", credential.private_key, kForOwner));
    RETURN_IF_ERROR(Write(folder / "tls.crt", credential.certificate, kForAll));
    RETURN_IF_ERROR(Write(folder / "ca.crt", authority.certificate, kForAll));
  }
  return absl::OkStatus();
}

// Whether members that run with what is there would take what is to be.
absl::Status CheckSameNames(const CertificateOptions& options) {
  for (const std::string& role : Roles()) {
    const fs::path path = fs::path(options.folder) / role / "tls.crt";
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    ASSIGN_OR_RETURN(const std::string text, Read(path));
    const std::string uri = IdentityUri(options.trust_domain, role);
    const std::string there = DescribeCertificate(text);
    if (absl::StartsWith(there, absl::StrCat(uri, ","))) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(path.string(), " is of ", there, "; renewed, it would be of ", uri,
                     ", which running members refuse: give --trust_domain as it was"));
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
  ASSIGN_OR_RETURN(const std::vector<Issued> all, IssueAll(authority, options));
  RETURN_IF_ERROR(MakeFolder(folder));
  RETURN_IF_ERROR(Write(folder / "ca.key", authority.private_key, kForOwner));
  RETURN_IF_ERROR(Write(folder / "ca.crt", authority.certificate, kForAll));
  return WriteAll(all, authority, options.folder);
}

absl::Status RenewCertificates(const CertificateOptions& options) {
  const fs::path folder = fs::path(options.folder) / "ca";
  Credential authority;
  ASSIGN_OR_RETURN(authority.certificate, Read(folder / "ca.crt"));
  ASSIGN_OR_RETURN(authority.private_key, Read(folder / "ca.key"));
  RETURN_IF_ERROR(CheckSameNames(options));
  const absl::StatusOr<std::vector<Issued>> all = IssueAll(authority, options);
  if (!all.ok()) {
    return absl::Status(all.status().code(), absl::StrCat("with the CA in ", folder.string(), ": ",
                                                          all.status().message()));
  }
  return WriteAll(*all, authority, options.folder);
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
