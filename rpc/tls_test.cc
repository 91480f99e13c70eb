// Mutual TLS between servers and channels: who may come, and files that change meanwhile.
#include <atomic>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/member.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/credentials.h"
#include "rpc/deadline.h"
#include "rpc/local_socket.h"
#include "rpc/member_channel.h"
#include "rpc/server.h"
#include "rpc/status.h"
#include "rpc/test_certificates.h"
#include "rpc/tls/certificate_copies.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kExpert[] = "spiffe://orrery/expert";
constexpr char kAttention[] = "spiffe://orrery/attention";
constexpr char kRouter[] = "spiffe://orrery/router";

class FakeMember : public internal::Member::Service {
 public:
  grpc::Status Describe(grpc::ServerContext*, const internal::DescribeRequest*,
                        internal::MemberDescription* response) override {
    ++num_calls;
    if (waits) go_on.get_future().wait();
    response->set_name("expert-3");
    return grpc::Status::OK;
  }
  std::atomic<int> num_calls = 0;
  std::atomic<bool> waits = false;
  std::promise<void> go_on;
};

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

absl::Status Describe(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + absl::Minutes(1));
  internal::MemberDescription response;
  return FromGrpcStatus(internal::Member::NewStub(channel)->Describe(&context, {}, &response));
}

// Over a connection of its own.
absl::Status Describe(const std::string& address, const TlsFiles& tls) {
  return Describe(MakeChannel(address, tls, {.own_connection = true}).value());
}

bool ComesTrue(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));  // between two looks: no event tells of it
  }
  return true;
}

// Files of one name are read once in a process, and then again only after a while.
std::string NewName() {
  static int num_names = 0;
  return absl::StrCat("member-", num_names++);
}

// A server with this certificate, which takes callers with one of these names.
struct TlsServer {
  explicit TlsServer(const TestCertificate& certificate, std::vector<std::string> callers = {})
      : name(NewName()), files(MakeTestCertificates(name, certificate)) {
    files.peers = std::move(callers);
    server = Server::Start({.address = "127.0.0.1:0", .tls = files}, {&member}).value();
  }
  const std::string& address() const { return server->address(); }

  const std::string name;  // of its certificate
  TlsFiles files;
  FakeMember member;
  std::unique_ptr<Server> server;
};

TlsFiles Client(const TestCertificate& certificate, std::vector<std::string> servers = {}) {
  TlsFiles files = MakeTestCertificates(NewName(), certificate);
  files.peers = std::move(servers);
  return files;
}

TEST(Tls, LetsMembersOfOneAuthorityTalk) {
  TlsServer server({});
  EXPECT_EQ(Describe(server.address(), Client({})), absl::OkStatus());
}

TEST(Tls, HasNoUnixSocketWhichWouldBePlainText) {
  TlsServer server({});
  EXPECT_FALSE(SomebodyListensLocally(server.address()));
  const auto channel = MemberChannel::Make(server.address(), Client({})).value();
  EXPECT_EQ(Describe(channel->Now()), absl::OkStatus());
}

TEST(Tls, MayListenWhereOtherMachinesReachIt) {
  FakeMember member;
  EXPECT_TRUE(
      Server::Start({.address = "0.0.0.0:0", .tls = MakeTestCertificates("public")}, {&member})
          .ok());
}

TEST(Tls, RefusesPlainTextAndStrangersAndGoesOnWithTheOthers) {
  TlsServer server({});
  const auto friendly = MakeChannel(server.address(), Client({})).value();
  EXPECT_EQ(Describe(friendly), absl::OkStatus());
  EXPECT_FALSE(Describe(server.address(), {}).ok());
  TlsFiles stranger = Client({.authority = "other_ca"});
  EXPECT_FALSE(Describe(server.address(), stranger).ok());
  // It trusts the server, but the server does not trust it.
  stranger.ca = server.files.ca;
  EXPECT_FALSE(Describe(server.address(), stranger).ok());
  EXPECT_EQ(server.member.num_calls, 1);
  EXPECT_EQ(Describe(friendly), absl::OkStatus());
}

TEST(Tls, RefusesACertificateThatHasExpired) {
  const Validity yesterday(absl::Now() - absl::Hours(48), absl::Now() - absl::Hours(24));
  TlsServer server({});
  EXPECT_FALSE(Describe(server.address(), Client({.validity = yesterday})).ok());
  EXPECT_EQ(server.member.num_calls, 0);
  TlsServer late({.validity = yesterday});
  EXPECT_FALSE(Describe(late.address(), Client({})).ok());
  EXPECT_EQ(late.member.num_calls, 0);
}

TEST(Tls, AServerTakesCallsOfThoseWhoBelongThereOnly) {
  TlsServer server({.uri = kExpert}, {kAttention, kRouter});
  EXPECT_EQ(Describe(server.address(), Client({.uri = kAttention})), absl::OkStatus());
  const absl::Status wrong = Describe(server.address(), Client({.uri = kExpert}));
  EXPECT_EQ(wrong.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(wrong.message()),
              AllOf(HasSubstr(absl::StrCat("names ", kExpert)),
                    HasSubstr(absl::StrCat(kAttention, " ", kRouter))));
  EXPECT_EQ(Describe(server.address(), Client({})).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(server.member.num_calls, 1);
}

TEST(Tls, AServiceMayBeForSomeOfThoseOnly) {
  FakeMember member;
  TlsFiles files = MakeTestCertificates(NewName(), {.uri = kExpert});
  files.peers = {kAttention, kRouter};
  files.service_peers = {{"orrery.internal.Member", {kRouter}}, {"orrery.internal.Expert", {}}};
  const auto server = Server::Start({.address = "127.0.0.1:0", .tls = files}, {&member}).value();
  EXPECT_EQ(Describe(server->address(), Client({.uri = kRouter})), absl::OkStatus());
  const absl::Status wrong = Describe(server->address(), Client({.uri = kAttention}));
  EXPECT_EQ(wrong.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(wrong.message()),
              HasSubstr(absl::StrCat("who may call orrery.internal.Member here: ", kRouter)));
}

TEST(Tls, AClientTalksToServersThatItExpectsOnlyWhateverTheirHostNames) {
  TlsServer server({.uri = kExpert, .hosts = {"elsewhere.example"}});
  EXPECT_EQ(Describe(server.address(), Client({}, {kExpert})), absl::OkStatus());
  const absl::Status wrong = Describe(server.address(), Client({}, {kRouter}));
  EXPECT_EQ(wrong.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(wrong.message()),
              AllOf(HasSubstr(absl::StrCat("names ", kExpert)), HasSubstr(server.address()),
                    HasSubstr(absl::StrCat("expected there: ", kRouter))));
  // Who expects no name in particular checks that of the host.
  EXPECT_EQ(Describe(server.address(), Client({})).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server.member.num_calls, 1);
}

// What a server takes, it takes for connections that are made from then on.
TEST(Tls, NewFilesServeNewConnectionsWhileACallIsOpen) {
  TlsServer server({.uri = kExpert}, {kAttention});
  const TlsFiles client = Client({.uri = kAttention}, {kExpert});
  const auto channel = MakeChannel(server.address(), client).value();
  ASSERT_EQ(Describe(channel), absl::OkStatus());
  server.member.waits = true;
  std::future<absl::Status> open =
      std::async(std::launch::async, [&] { return Describe(channel); });
  ASSERT_TRUE(ComesTrue([&] { return server.member.num_calls == 2; }));

  // Another name, so that it shows which certificate is in use.
  server.member.waits = false;
  MakeTestCertificates(server.name, {.uri = kRouter});
  TlsFiles wants_new = client;
  wants_new.peers = {kRouter};
  EXPECT_TRUE(ComesTrue([&] { return Describe(server.address(), wants_new).ok(); }));
  EXPECT_FALSE(Describe(server.address(), client).ok());
  server.member.go_on.set_value();
  EXPECT_EQ(open.get(), absl::OkStatus());
  EXPECT_EQ(Describe(channel), absl::OkStatus());
}

TEST(Tls, AClientShowsItsNewCertificate) {
  TlsServer server({.uri = kExpert}, {kAttention});
  const TlsFiles client = MakeTestCertificates("renewed", {.uri = kRouter});
  EXPECT_EQ(Describe(server.address(), client).code(), absl::StatusCode::kPermissionDenied);
  MakeTestCertificates("renewed", {.uri = kAttention});
  EXPECT_TRUE(ComesTrue([&] { return Describe(server.address(), client).ok(); }));
}

TEST(CertificateCopies, AreReplacedByGoodFilesOnly) {
  const TlsFiles files = MakeTestCertificates("copied");
  const auto copies = CertificateCopies::Make(files).value();
  const TlsFiles paths = copies->paths();
  const TlsTexts first = ReadTlsFiles(paths).value();
  EXPECT_EQ(first, *ReadTlsFiles(files));

  const TlsFiles other = MakeTestCertificates("other");
  const auto look_at = [&](const std::string& path, const std::string& text) {
    WriteTestFile(path, text);
    for (int i = 0; i < 3; ++i) copies->Look();
    EXPECT_EQ(ReadTlsFiles(paths).value(), first);
  };
  ::testing::internal::CaptureStderr();
  look_at(files.certificate, "-----BEGIN nothing");
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr(files.certificate));
  EXPECT_EQ(log.find("stay in use"), log.rfind("stay in use")) << "said once: " << log;
  const auto with_a_broken_one = [](const std::string& text) {
    return absl::StrCat(text, text.substr(0, text.size() / 2), "\n-----END CERTIFICATE-----\n");
  };
  look_at(files.certificate, with_a_broken_one(first.certificate));
  WriteTestFile(files.certificate, first.certificate);
  look_at(files.ca, with_a_broken_one(first.ca));
  WriteTestFile(files.ca, first.ca);
  look_at(files.certificate, ReadAll(other.certificate));  // of another key

  // The key that belongs to it makes them good again.
  WriteTestFile(files.private_key, ReadAll(other.private_key));
  copies->Look();
  EXPECT_EQ(ReadTlsFiles(paths).value(), *ReadTlsFiles(files));
  EXPECT_EQ(copies->paths().certificate, paths.certificate);
}

TEST(CertificateCopies, AreNotReplacedByOnesThatHaveExpired) {
  const TlsFiles files = MakeTestCertificates("rolled_back");
  const auto copies = CertificateCopies::Make(files).value();
  const TlsTexts first = ReadTlsFiles(copies->paths()).value();
  MakeTestCertificates("rolled_back", {.validity = Validity(absl::Now() - absl::Hours(48),
                                                            absl::Now() - absl::Hours(24))});
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) copies->Look();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("not valid now"));
  EXPECT_EQ(ReadTlsFiles(copies->paths()).value(), first);
}

TEST(TlsFiles, AreRefusedWhereTheKeyIsNotTheCertificates) {
  FakeMember member;
  TlsFiles mixed = MakeTestCertificates("one");
  mixed.private_key = MakeTestCertificates("another").private_key;
  const absl::Status status =
      Server::Start({.address = "127.0.0.1:0", .tls = mixed}, {&member}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(mixed.private_key), HasSubstr(mixed.certificate)));
}

TEST(TlsFiles, AreNamedWhenTheyCannotBeUsed) {
  const TlsFiles good = MakeTestCertificates("good");
  TlsFiles missing = good;
  missing.private_key = ::testing::TempDir() + "/nowhere.key";
  const absl::Status not_found = MakeChannel("localhost:1", missing).status();
  EXPECT_EQ(not_found.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(not_found.message()), HasSubstr(missing.private_key));

  TlsFiles folder = good;
  folder.ca = ::testing::TempDir();
  EXPECT_THAT(std::string(MakeServerCredentials(folder).status().message()),
              HasSubstr("CA certificate"));

  TlsFiles not_pem = good;
  not_pem.certificate = "/proc/self/status";
  EXPECT_THAT(std::string(MakeServerCredentials(not_pem).status().message()),
              HasSubstr("is not a PEM file"));

  TlsFiles partial = good;
  partial.ca.clear();
  EXPECT_EQ(MakeServerCredentials(partial).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace orrery
