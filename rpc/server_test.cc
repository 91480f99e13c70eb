// Servers and channels against each other, on ports that the system picks.
#include "rpc/server.h"

#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "proto/member.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/local_socket.h"
#include "rpc/member_channel.h"
#include "rpc/status.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

constexpr char kHealthName[] = "orrery.internal.Member";

class FakeMember : public internal::Member::Service {
 public:
  grpc::Status Describe(grpc::ServerContext* context, const internal::DescribeRequest*,
                        internal::MemberDescription* response) override {
    deadline_seconds = absl::ToInt64Seconds(DeadlineOf(*context) - absl::Now());
    response->set_name("expert-3");
    return grpc::Status::OK;
  }
  std::atomic<int64_t> deadline_seconds = 0;
};

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
  return MakeChannel(address, {}).value();
}

absl::Status Describe(const std::shared_ptr<grpc::Channel>& channel,
                      absl::Duration limit = absl::Minutes(1)) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + limit);
  internal::MemberDescription response;
  return FromGrpcStatus(internal::Member::NewStub(channel)->Describe(&context, {}, &response));
}

// A unary call with bytes for messages.
absl::StatusOr<std::string> CallRaw(const std::shared_ptr<grpc::Channel>& channel,
                                    const std::string& method, const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + absl::Minutes(1));
  const grpc::Slice slice(request);
  const grpc::ByteBuffer request_buffer(&slice, 1);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareUnaryCall(&context, method, request_buffer, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  RETURN_IF_ERROR(FromGrpcStatus(status));
  grpc::Slice bytes;
  if (response.Valid()) (void)response.DumpToSingleSlice(&bytes);
  return std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
}

// grpc.health.v1: the request is {1: service name}, the response {1: status}; 1 is SERVING, 2
// NOT_SERVING.
int Health(const std::shared_ptr<grpc::Channel>& channel, const std::string& name) {
  const std::string request =
      name.empty() ? ""
                   : absl::StrCat("\x0a", std::string(1, static_cast<char>(name.size())), name);
  const absl::StatusOr<std::string> response =
      CallRaw(channel, "/grpc.health.v1.Health/Check", request);
  return response.ok() && response->size() == 2 ? (*response)[1] : -1;
}

TEST(Server, AnswersOnThePortThatItFound) {
  FakeMember member;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&member}).value();
  EXPECT_GT(server->port(), 0);
  EXPECT_EQ(server->address(), absl::StrCat("127.0.0.1:", server->port()));
  EXPECT_EQ(Describe(ChannelTo(server->address())), absl::OkStatus());
  EXPECT_LE(member.deadline_seconds, 60);
  EXPECT_GE(member.deadline_seconds, 1);
}

TEST(Server, IsReachedThroughItsUnixSocketFromItsOwnHost) {
  FakeMember member;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&member}).value();
  const auto channel = MemberChannel::Make(server->address(), {}).value();
  EXPECT_EQ(Describe(channel->Now()), absl::OkStatus());
  EXPECT_EQ(channel->Now()->GetState(false), GRPC_CHANNEL_READY);
  // The same way again, by nothing but the socket.
  EXPECT_EQ(Describe(MakeLocalChannel(server->address())), absl::OkStatus());
}

TEST(Server, IsReachedOverTcpWhereItsUnixSocketIsNot) {
  FakeMember member;
  const auto server =
      Server::Start({.address = "0.0.0.0:0", .allow_plain_text = true}, {&member}).value();
  // Another name of the address, as behind a port that a container publishes.
  const std::string address = absl::StrCat("127.0.0.1:", server->port());
  EXPECT_FALSE(SomebodyListensLocally(address));
  EXPECT_EQ(Describe(MemberChannel::Make(address, {}).value()->Now()), absl::OkStatus());
}

// As in a pod, whose name others resolve.
TEST(Server, BindsWhereItIsToldAndIsNamedByTheAddressThatOthersKnow) {
  FakeMember member;
  const std::string name = absl::StrCat("expert-3.invalid:", 20'000 + getpid() % 10'000);
  const auto server =
      Server::Start({.address = name, .listen_address = "127.0.0.1:0"}, {&member}).value();
  EXPECT_EQ(server->address(), name);
  EXPECT_EQ(Describe(ChannelTo(absl::StrCat("127.0.0.1:", server->port()))), absl::OkStatus());
  EXPECT_EQ(Describe(MemberChannel::Make(name, {}).value()->Now()), absl::OkStatus());
  const absl::Status status =
      Server::Start({.address = name, .listen_address = absl::StrCat("127.0.0.1:", server->port())},
                    {&member})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("127.0.0.1:"));
}

TEST(Server, LeavesItsUnixSocketToTheNextOne) {
  FakeMember member;
  auto server = Server::Start({.address = "127.0.0.1:0"}, {&member}).value();
  const std::string address = server->address();
  const auto channel = MemberChannel::Make(address, {}).value();
  ASSERT_EQ(Describe(channel->Now()), absl::OkStatus());
  server->Stop(absl::Now());
  EXPECT_FALSE(SomebodyListensLocally(address));
  EXPECT_EQ(Describe(channel->Now()).code(), absl::StatusCode::kUnavailable);
  server.reset();
  auto next = Server::Start({.address = address}, {&member});
  if (!next.ok()) GTEST_SKIP() << "somebody else took the port";
  EXPECT_TRUE(SomebodyListensLocally(address));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  SetDeadline(context, absl::Now() + absl::Minutes(1));
  internal::MemberDescription response;
  EXPECT_EQ(
      FromGrpcStatus(internal::Member::NewStub(channel->Now())->Describe(&context, {}, &response)),
      absl::OkStatus());
}

TEST(Server, SaysWhichAddressIsInUse) {
  FakeMember member, other;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&member}).value();
  const absl::Status status = Server::Start({.address = server->address()}, {&other}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr(server->address()));
}

TEST(Server, RefusesAddressesThatItCannotListenOn) {
  FakeMember member;
  EXPECT_EQ(Server::Start({.address = "no port"}, {&member}).status().code(),
            absl::StatusCode::kInvalidArgument);
  // An address of the documentation range: no machine has it.
  const absl::Status status =
      Server::Start({.address = "192.0.2.1:0", .allow_plain_text = true}, {&member}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("192.0.2.1:0"));
}

TEST(Server, SpeaksPlainTextToOtherMachinesOnlyWhenAsked) {
  FakeMember member;
  const absl::Status status = Server::Start({.address = "0.0.0.0:0"}, {&member}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("allow_plain_text"));
  EXPECT_TRUE(Server::Start({.address = "[::1]:0"}, {&member}).status().code() !=
              absl::StatusCode::kFailedPrecondition);
}

TEST(Server, AnswersHealthAsItIsTold) {
  FakeMember member;
  const auto server =
      Server::Start({.address = "127.0.0.1:0", .health_name = kHealthName}, {&member}).value();
  const auto channel = ChannelTo(server->address());
  EXPECT_EQ(Health(channel, ""), 2);
  EXPECT_EQ(Health(channel, kHealthName), 2);
  server->SetServing(true);
  EXPECT_EQ(Health(channel, ""), 1);
  EXPECT_EQ(Health(channel, kHealthName), 1);
  server->SetServing(false);
  EXPECT_EQ(Health(channel, kHealthName), 2);
  EXPECT_EQ(Health(channel, "another"), -1);
}

TEST(Server, OffersReflectionOnlyWhenAsked) {
  const std::string method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  FakeMember member;
  const auto open =
      Server::Start({.address = "127.0.0.1:0", .reflection = true}, {&member}).value();
  EXPECT_TRUE(CallRaw(ChannelTo(open->address()), method, "").ok());
  FakeMember other;
  const auto closed = Server::Start({.address = "127.0.0.1:0"}, {&other}).value();
  EXPECT_EQ(CallRaw(ChannelTo(closed->address()), method, "").status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST(Server, TakesNoMoreCallsOnceStopped) {
  FakeMember member;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&member}).value();
  const auto channel = ChannelTo(server->address());
  ASSERT_TRUE(Describe(channel).ok());
  server->Stop(absl::Now() + absl::Seconds(5));
  server->Stop(absl::Now());  // a second time changes nothing
  EXPECT_EQ(Describe(channel).code(), absl::StatusCode::kUnavailable);
}

// Its answers wait for Release.
class BusyMember : public internal::Member::Service {
 public:
  grpc::Status Describe(grpc::ServerContext*, const internal::DescribeRequest*,
                        internal::MemberDescription*) override {
    ++num_asked_;
    released_.wait();
    return grpc::Status::OK;
  }
  void AwaitAsked(int num_calls) const {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (num_asked_ < num_calls && absl::Now() < deadline) std::this_thread::yield();
    EXPECT_EQ(num_asked_, num_calls);
  }
  void Release() { release_.set_value(); }

 private:
  std::promise<void> release_;
  const std::shared_future<void> released_ = release_.get_future();
  std::atomic<int> num_asked_ = 0;
};

std::future<absl::Status> DescribeMeanwhile(const std::shared_ptr<grpc::Channel>& channel) {
  return std::async(std::launch::async, [channel] { return Describe(channel); });
}

// One of the threads waits for calls.
TEST(Server, RefusesCallsThatItHasNoThreadFor) {
  BusyMember member;
  const auto server =
      Server::Start({.address = "127.0.0.1:0", .max_threads = 4}, {&member}).value();
  const auto channel = ChannelTo(server->address());
  std::vector<std::future<absl::Status>> served;
  for (int i = 1; i <= 3; ++i) {
    served.push_back(DescribeMeanwhile(channel));
    member.AwaitAsked(i);
  }
  EXPECT_EQ(Describe(channel).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Describe(ChannelTo(server->address())).code(), absl::StatusCode::kResourceExhausted);
  member.Release();
  for (std::future<absl::Status>& call : served) EXPECT_EQ(call.get(), absl::OkStatus());
  EXPECT_EQ(Describe(channel), absl::OkStatus());
}

TEST(Server, TakesSoManyCallsOfOneConnectionAtATime) {
  BusyMember member;
  const auto server =
      Server::Start({.address = "127.0.0.1:0", .max_calls_per_connection = 1}, {&member}).value();
  const auto channel = ChannelTo(server->address());
  std::future<absl::Status> first = DescribeMeanwhile(channel);
  member.AwaitAsked(1);
  EXPECT_EQ(Describe(channel, absl::Milliseconds(50)).code(), absl::StatusCode::kDeadlineExceeded);
  member.AwaitAsked(1);
  member.Release();
  EXPECT_EQ(first.get(), absl::OkStatus());
  EXPECT_EQ(Describe(channel), absl::OkStatus());
}

TEST(Channel, RefusesAddressesThatCannotBeReached) {
  for (const char* address : {"host", "host:0", "", "host:99999"}) {
    EXPECT_EQ(MakeChannel(address, {}).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace orrery
