// Mutual TLS between real processes: who does not belong there is refused, and certificates are replaced, while the
// cluster answers.
#include <atomic>
#include <csignal>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "proto/member.grpc.pb.h"
#include "proto/placement.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/cluster_tls.h"
#include "rpc/deadline.h"
#include "rpc/status.h"
#include "rpc/tls/make_certificates.h"
#include "tests/cluster/cluster_test_util.h"
#include "tools/certs/development_certificates.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kNumStreams = 32;
constexpr int kNumProblems = 4;

std::string MakeFolder(const std::string& name) {
  const std::string folder = absl::StrCat(::testing::TempDir(), "/", name);
  EXPECT_EQ(MakeCertificates({.folder = folder}), absl::OkStatus());
  return folder;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// Signed by the CA of the folder.
TlsFiles MakeIssued(const std::string& folder, const std::string& role, const Validity& validity) {
  const Credential authority = {.certificate = ReadAll(folder + "/ca/ca.crt"),
                                .private_key = ReadAll(folder + "/ca/ca.key")};
  const Credential made = Issue(authority, {.common_name = role,
                                            .uri = IdentityUri(kDefaultTrustDomain, role),
                                            .validity = validity})
                              .value();
  static int num_issued = 0;  // what was read once under a name is read again only after a while
  const std::string path = absl::StrCat(folder, "/issued-", num_issued++);
  const TlsFiles files = {
      .certificate = path + ".crt", .private_key = path + ".key", .ca = folder + "/ca/ca.crt"};
  std::ofstream(files.certificate) << made.certificate;
  std::ofstream(files.private_key) << made.private_key;
  return files;
}

absl::Status Describe(const std::string& address, const TlsFiles& tls) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kPatience);
  internal::MemberDescription response;
  const auto channel = MakeChannel(address, tls, {.own_connection = true}).value();
  return FromGrpcStatus(internal::Member::NewStub(channel)->Describe(&context, {}, &response));
}

// Of somebody who speaks TLS and trusts the CA of the folder, but shows no certificate.
absl::Status DescribeUnnamed(const std::string& address, const std::string& folder) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kPatience);
  internal::MemberDescription response;
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ReadAll(folder + "/ca/ca.crt");
  const auto channel = grpc::CreateChannel(address, grpc::SslCredentials(options));
  return FromGrpcStatus(internal::Member::NewStub(channel)->Describe(&context, {}, &response));
}

absl::Status CountRows(const std::string& address, const TlsFiles& tls) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kPatience);
  internal::RowCounts response;
  const auto channel = MakeChannel(address, tls, {.own_connection = true}).value();
  return FromGrpcStatus(internal::Placement::NewStub(channel)->CountRows(&context, {}, &response));
}

v1::GenerateRequest RequestFor(const Problem& problem) {
  v1::GenerateRequest request;
  *request.mutable_messages() = problem.messages;
  return request;
}

bool ComesToLog(const Launcher& cluster, const std::string& member, const std::string& text) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!absl::StrContains(cluster.Output(member), text)) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(50));  // between two looks: a log tells of no line
  }
  return true;
}

TEST(ClusterTls, RefusesWhoDoesNotBelongThereAndDisturbsNobodyElse) {
  const std::string folder = MakeFolder("refusing");
  Topology topology = AbacusTopology(1, 2);
  topology.tls = TlsOfFolder(folder);
  topology.exchange = internal::EXCHANGE_GRPC;
  const auto cluster = StartReady(topology);
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  const v1::GenerateRequest request = RequestFor(ReadProblems(1)[0]);
  const auto undisturbed = client.Generate(request, kPatience);
  ASSERT_TRUE(undisturbed.ok()) << undisturbed.status();

  const internal::ClusterFile& file = cluster->cluster();
  const std::string rank = file.attention(0).address(), shard = file.expert(0).address();
  bool has_come = false;
  const auto disturbed = client.Generate(request, kPatience, [&](const v1::Delta&) {
    if (has_come) return true;
    has_come = true;
    TlsFiles as_client = ClientTls(file);
    as_client.peers = {IdentityUri(kDefaultTrustDomain, "attention")};
    const absl::Status refused = Describe(rank, as_client);
    EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr("spiffe://orrery/client"), HasSubstr("spiffe://orrery/router")));
    // A shard is no caller of ranks, and no rank.
    EXPECT_EQ(
        Describe(rank, MemberTls(file, internal::ROLE_EXPERT, {internal::ROLE_ATTENTION})).code(),
        absl::StatusCode::kPermissionDenied);
    EXPECT_EQ(
        Describe(shard, MemberTls(file, internal::ROLE_ROUTER, {internal::ROLE_ATTENTION})).code(),
        absl::StatusCode::kUnavailable);
    EXPECT_FALSE(Describe(shard, {}).ok());
    EXPECT_EQ(DescribeUnnamed(rank, folder).code(), absl::StatusCode::kUnavailable);
    const Validity now(absl::Hours(1));
    const Validity before(absl::Now() - absl::Hours(2), absl::Now() - absl::Hours(1));
    EXPECT_EQ(Describe(shard, MakeIssued(folder, "attention", now)), absl::OkStatus());
    EXPECT_FALSE(Describe(shard, MakeIssued(folder, "attention", before)).ok());
    // What a router may ask of shards, a rank may not, and the other way round.
    EXPECT_EQ(CountRows(shard, MakeIssued(folder, "router", now)), absl::OkStatus());
    EXPECT_EQ(CountRows(shard, MakeIssued(folder, "attention", now)).code(),
              absl::StatusCode::kPermissionDenied);
    return true;
  });
  ASSERT_TRUE(disturbed.ok()) << disturbed.status();
  EXPECT_EQ(disturbed->ids, undisturbed->ids);
  EXPECT_THAT(cluster->Output("attention-0"),
              HasSubstr("refused a call: its certificate names spiffe://orrery/client"));
  EXPECT_TRUE(ComesToLog(*cluster, "attention-0", "peer did not return a certificate"));
  EXPECT_THAT(cluster->Output("expert-0"), HasSubstr("certificate verify failed"));
  EXPECT_EQ(cluster->CheckAlive(), absl::OkStatus());
}

// A whole process with another role's certificate gets no rows.
TEST(ClusterTls, AMemberThatShowsAnotherRoleIsNotUsed) {
  Topology topology = AbacusTopology(1, 2);
  topology.num_spare_shards = 1;
  topology.tls = TlsOfFolder(MakeFolder("wrong-role"));
  auto file = MakeLocalCluster(topology);
  ASSERT_TRUE(file.ok()) << file.status();
  LaunchOptions options = TestLaunchOptions();
  options.left_out = {"expert-2"};
  const auto cluster = StartFrom(*file, options);
  ASSERT_NE(cluster, nullptr);
  ASSERT_EQ(cluster->WaitUntilReady(kPatience), absl::OkStatus());

  internal::ClusterFile false_file = *file;
  for (std::string* path : {false_file.mutable_tls()->mutable_certificate(),
                            false_file.mutable_tls()->mutable_private_key()}) {
    path->replace(path->find("{role}"), 6, "client");
  }
  options.left_out = {"router-0", "attention-0", "expert-0", "expert-1"};
  const auto false_shard = StartFrom(false_file, options);
  ASSERT_NE(false_shard, nullptr);
  EXPECT_TRUE(ComesToLog(*cluster, "attention-0",
                         "names spiffe://orrery/client; who is expected there: "
                         "spiffe://orrery/expert"));
  OrreryClient client = Connect(*cluster);
  const auto answer = client.Generate(RequestFor(ReadProblems(1)[0]), kPatience);
  EXPECT_TRUE(answer.ok()) << answer.status();
}

TEST(ClusterTls, TakesNewCertificatesUnderThirtyTwoStreams) {
  const std::string folder = MakeFolder("rotated");
  Topology topology = AbacusTopology(2, 2);
  topology.tls = TlsOfFolder(folder);
  topology.exchange = internal::EXCHANGE_GRPC;  // rows over TLS, too
  const auto cluster = StartReady(topology);
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  const std::vector<Problem> problems = ReadProblems(kNumProblems);
  std::vector<Answer> undisturbed;
  for (const Problem& problem : problems) {
    auto answer = client.Generate(RequestFor(problem), kPatience);
    ASSERT_TRUE(answer.ok()) << answer.status();
    undisturbed.push_back(*std::move(answer));
  }

  std::atomic<bool> is_over = false;
  std::atomic<int> num_begun = 0;
  std::vector<std::thread> streams;
  for (int s = 0; s < kNumStreams; ++s) {
    streams.emplace_back([&, s] {
      const int p = s % kNumProblems;
      do {
        ++num_begun;
        const auto answer = client.Generate(RequestFor(problems[p]), kPatience);
        ASSERT_TRUE(answer.ok()) << answer.status();
        EXPECT_EQ(answer->ids, undisturbed[p].ids);
      } while (!is_over);
    });
  }
  while (num_begun < kNumStreams) std::this_thread::yield();
  EXPECT_EQ(RenewCertificates({.folder = folder}), absl::OkStatus());
  for (const char* member : {"router-0", "attention-0", "attention-1", "expert-0", "expert-1"}) {
    EXPECT_TRUE(ComesToLog(*cluster, member, "TLS: new files: spiffe://orrery/")) << member;
  }
  // New connections, to all of them: a shard that comes back is connected to by both ranks and the router.
  EXPECT_EQ(cluster->Kill("expert-1", SIGKILL), absl::OkStatus());
  EXPECT_TRUE(cluster->WaitForExit("expert-1", absl::Now() + kPatience).has_value());
  EXPECT_EQ(cluster->Restart("expert-1"), absl::OkStatus());
  EXPECT_EQ(cluster->WaitUntilReady(kPatience), absl::OkStatus());
  is_over = true;
  for (std::thread& stream : streams) stream.join();
  OrreryClient another = Connect(*cluster);
  const auto answer = another.Generate(RequestFor(problems[0]), kPatience);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ids, undisturbed[0].ids);
}

}  // namespace
}  // namespace orrery
