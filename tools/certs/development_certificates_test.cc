#include "tools/certs/development_certificates.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/cluster_tls.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

int ModeOf(const std::string& path) {
  struct stat info = {};
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 0777;
}

TEST(DevelopmentCertificates, AreFoundThroughTheClusterFileByEachRole) {
  const std::string folder = absl::StrCat(::testing::TempDir(), "/found");
  ASSERT_EQ(MakeCertificates({.folder = folder, .trust_domain = "here"}), absl::OkStatus());
  internal::ClusterFile cluster;
  *cluster.mutable_tls() = TlsOfFolder(folder);
  cluster.mutable_tls()->set_trust_domain("here");
  const TlsFiles shard =
      MemberTls(cluster, internal::ROLE_EXPERT, {internal::ROLE_ATTENTION, internal::ROLE_ROUTER});
  EXPECT_EQ(shard.certificate, folder + "/expert/tls.crt");
  EXPECT_THAT(shard.peers,
              ::testing::ElementsAre("spiffe://here/attention", "spiffe://here/router"));
  EXPECT_EQ(ModeOf(shard.private_key), 0600);
  EXPECT_EQ(ModeOf(folder + "/ca/ca.key"), 0600);
  EXPECT_THAT(DescribeCertificate(ReadTlsFiles(shard).value().certificate),
              HasSubstr("spiffe://here/expert, valid until"));

  const TlsFiles client = ClientTls(cluster);
  EXPECT_EQ(client.certificate, folder + "/client/tls.crt");
  EXPECT_EQ(ClientTlsOfFolder(folder, "here").certificate, client.certificate);
  EXPECT_EQ(ClientTlsOfFolder(folder, "here").peers, client.peers);
  EXPECT_EQ(ClientTlsOfFolder(folder + "/client", "here").certificate, client.certificate);

  // A front door takes whoever the CA knows, unless the file lists clients.
  EXPECT_TRUE(FrontDoorTls(cluster).peers.empty());
  cluster.mutable_tls()->add_client("spiffe://here/client");
  EXPECT_THAT(FrontDoorTls(cluster).peers,
              ::testing::ElementsAre("spiffe://here/router", "spiffe://here/client"));
}

TEST(DevelopmentCertificates, AreRenewedByTheSameCaWhichIsNeverOverwritten) {
  const CertificateOptions options = {.folder = absl::StrCat(::testing::TempDir(), "/renewed")};
  EXPECT_EQ(RenewCertificates(options).code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(MakeCertificates(options), absl::OkStatus());
  const TlsFiles files = ClientTlsOfFolder(options.folder, kDefaultTrustDomain);
  const TlsTexts first = ReadTlsFiles(files).value();
  EXPECT_EQ(MakeCertificates(options).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(*ReadTlsFiles(files), first);
  ASSERT_EQ(RenewCertificates(options), absl::OkStatus());
  const TlsTexts second = ReadTlsFiles(files).value();
  EXPECT_EQ(second.ca, first.ca);
  EXPECT_NE(second.certificate, first.certificate);
  EXPECT_NE(second.private_key, first.private_key);
}

TEST(DevelopmentCertificates, AreNotRenewedUnderNamesThatRunningMembersRefuse) {
  CertificateOptions options = {.folder = absl::StrCat(::testing::TempDir(), "/named"),
                                .trust_domain = "prod"};
  ASSERT_EQ(MakeCertificates(options), absl::OkStatus());
  const TlsFiles files = ClientTlsOfFolder(options.folder, "prod");
  const TlsTexts first = ReadTlsFiles(files).value();
  options.trust_domain = kDefaultTrustDomain;
  const absl::Status status = RenewCertificates(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("spiffe://prod/"));
  EXPECT_EQ(*ReadTlsFiles(files), first);
}

TEST(DevelopmentCertificates, AreNotRenewedByAKeyThatIsNotTheCas) {
  const CertificateOptions options = {.folder = absl::StrCat(::testing::TempDir(), "/restored")};
  const CertificateOptions other = {.folder = absl::StrCat(::testing::TempDir(), "/backup")};
  ASSERT_EQ(MakeCertificates(options), absl::OkStatus());
  ASSERT_EQ(MakeCertificates(other), absl::OkStatus());
  std::filesystem::copy_file(other.folder + "/ca/ca.key", options.folder + "/ca/ca.key",
                             std::filesystem::copy_options::overwrite_existing);
  const absl::Status status = RenewCertificates(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(options.folder + "/ca"), HasSubstr("not that of its certificate")));
}

TEST(DevelopmentCertificates, RefuseHostsAndDomainsThatAreNoneAndLeaveNothingBehind) {
  CertificateOptions options = {.folder = absl::StrCat(::testing::TempDir(), "/bad"),
                                .hosts = {"a,b"}};
  absl::Status status = MakeCertificates(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"a,b\""));
  options.hosts = {"good.example"};
  for (const char* domain : {"", "Prod", "a/b", "a\nb"}) {
    options.trust_domain = domain;
    status = MakeCertificates(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("bad trust domain"));
  }
  options.trust_domain = "prod";
  EXPECT_EQ(MakeCertificates(options), absl::OkStatus());
}

}  // namespace
}  // namespace orrery
