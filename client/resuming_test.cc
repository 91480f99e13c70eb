// What a client makes of streams that break: routers that follow a script, and time that passes when told.
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "client/orrery_client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/server.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(30);

// Its answer is tokens 0, 1, 2, ... of choice 0; how far a stream goes and how it ends is told call by call.
class FakeRouter : public v1::Orrery::Service {
 public:
  struct Stream {
    int end = 0;  // of the tokens
    grpc::Status status = grpc::Status::OK;
    bool starts = true;
  };
  static constexpr int kNumTokens = 5;

  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    Stream stream;
    {
      const std::lock_guard lock(mutex_);
      stream = streams_[std::min(num_calls_++, streams_.size() - 1)];
      requests_.push_back(*request);
    }
    if (!stream.starts) return stream.status;
    v1::GenerateResponse response;
    response.mutable_started()->set_request_id("r");
    response.mutable_started()->set_resume_token("token");
    writer->Write(response);
    const int begin = request->has_resume() ? request->resume().received(0).id_size() : 0;
    for (int i = begin; i < stream.end; ++i) {
      v1::Delta& delta = *response.mutable_delta();
      delta.set_kind(v1::DELTA_KIND_CONTENT);
      delta.set_index(i);
      delta.set_id(i);
      delta.set_text(std::string(1, static_cast<char>('a' + i)));
      writer->Write(response);
    }
    if (stream.end == kNumTokens) {
      response.mutable_finished()->set_reason(v1::FINISH_REASON_LENGTH);
      writer->Write(response);
    }
    return stream.status;
  }
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse*) override {
    return grpc::Status::OK;
  }

  // The last one again and again.
  void Tell(std::vector<Stream> streams) { streams_ = std::move(streams); }
  const std::vector<v1::GenerateRequest>& requests() const { return requests_; }

 private:
  std::mutex mutex_;
  std::vector<Stream> streams_ = {{.end = kNumTokens}};
  size_t num_calls_ = 0;
  std::vector<v1::GenerateRequest> requests_;
};

grpc::Status Unavailable() { return {grpc::StatusCode::UNAVAILABLE, "as the script says"}; }

class ResumingTest : public ::testing::Test {
 protected:
  ResumingTest() {
    for (int i = 0; i < 2; ++i) {
      ServerOptions options;
      options.address = "127.0.0.1:0";
      auto server = Server::Start(options, {&routers_[i]});
      EXPECT_TRUE(server.ok()) << server.status();
      servers_.push_back(*std::move(server));
    }
  }

  OrreryClient Client(int num_routers, RetryOptions retry = {}) {
    std::vector<std::string> addresses;
    for (int i = 0; i < num_routers; ++i) addresses.push_back(servers_[i]->address());
    retry.seed = 7;
    retry.clock = &clock_;
    retry.pause = [this](absl::Duration pause) {
      pauses_.push_back(pause);
      clock_.AdvanceTo(clock_.Now() + pause);
    };
    return OrreryClient::Connect(addresses, {}, kPatience, retry).value();
  }

  absl::StatusOr<Answer> Ask(OrreryClient& client, absl::Duration timeout = kPatience) {
    seen_.clear();
    return client.Generate({}, timeout, [this](const v1::Delta& delta) {
      seen_ += delta.text();
      return true;
    });
  }

  // Which of the two a client has found first, for its next call.
  int CurrentOf(const OrreryClient& client) const {
    return client.address() == servers_[0]->address() ? 0 : 1;
  }

  VirtualClock clock_;
  std::vector<absl::Duration> pauses_;
  std::string seen_;
  FakeRouter routers_[2];
  std::vector<std::unique_ptr<Server>> servers_;
};

TEST_F(ResumingTest, AnAnswerWhoseStreamBreaksGoesOnAtTheOtherRouterAndNoTokenComesTwice) {
  OrreryClient client = Client(2);
  const int first = CurrentOf(client);
  routers_[first].Tell({{.end = 2, .status = Unavailable()}, {.end = 4, .status = Unavailable()}});
  routers_[1 - first].Tell({{.end = 4, .status = Unavailable()}, {.end = 5}});
  const auto answer = Ask(client);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->content, "abcde");
  EXPECT_EQ(seen_, "abcde");
  // The first: ab, the other: cd, the first: nothing, the other: e.
  ASSERT_EQ(routers_[1 - first].requests().size(), 2u);
  const v1::Resume& resume = routers_[1 - first].requests()[1].resume();
  EXPECT_EQ(resume.token(), "token");
  EXPECT_EQ(resume.attempt(), 3);
  EXPECT_THAT(resume.received(0).id(), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(CurrentOf(client), 1 - first);
  // Short after progress, longer after none.
  ASSERT_EQ(pauses_.size(), 3u);
  EXPECT_LE(pauses_[0], absl::Milliseconds(50));
  EXPECT_LE(pauses_[1], absl::Milliseconds(50));
  EXPECT_GT(pauses_[2], absl::Milliseconds(50));
}

TEST_F(ResumingTest, ARequestThatHasNotStartedIsTriedAtEachRouterOnce) {
  for (FakeRouter& router : routers_) {
    router.Tell({{.status = Unavailable(), .starts = false}});
  }
  OrreryClient client = Client(2);
  EXPECT_EQ(Ask(client).status(), absl::UnavailableError("as the script says"));
  EXPECT_EQ(routers_[0].requests().size(), 1u);
  EXPECT_EQ(routers_[1].requests().size(), 1u);
  EXPECT_TRUE(pauses_.empty());
  routers_[1].Tell({{.end = 5}});
  EXPECT_TRUE(Ask(client).ok());
}

TEST_F(ResumingTest, AFullRouterIsWaitedForOnceTheAnswerHasBegunAndNotBefore) {
  const grpc::Status full(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  routers_[0].Tell({{.status = full, .starts = false},
                    {.end = 1, .status = Unavailable()},
                    {.status = full, .starts = false},
                    {.end = 5}});
  OrreryClient client = Client(1);
  EXPECT_EQ(Ask(client).status(), absl::ResourceExhaustedError("full"));
  const auto answer = Ask(client);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(seen_, "abcde");
}

TEST_F(ResumingTest, AnErrorThatWillComeEverywhereIsGivenAsItIs) {
  OrreryClient client = Client(2);
  for (FakeRouter& router : routers_) {
    router.Tell({{.end = 1, .status = {grpc::StatusCode::INTERNAL, "broken"}}});
  }
  EXPECT_EQ(Ask(client).status(), absl::InternalError("broken"));
  EXPECT_EQ(routers_[0].requests().size() + routers_[1].requests().size(), 1u);
}

TEST_F(ResumingTest, EndsAtItsAttemptsItsBudgetOrItsDeadlineWhicheverComesFirst) {
  routers_[0].Tell({{.end = 1, .status = Unavailable()}});
  OrreryClient few = Client(1, {.max_attempts = 4});
  EXPECT_EQ(Ask(few).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(pauses_.size(), 3u);
  pauses_.clear();
  OrreryClient poor = Client(1, {.budget = 2});
  EXPECT_EQ(Ask(poor).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(pauses_.size(), 2u);
  pauses_.clear();
  const absl::Time begin = clock_.Now();
  OrreryClient late = Client(1);
  EXPECT_EQ(Ask(late, absl::Seconds(5)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_LT(clock_.Now(), begin + absl::Seconds(5));
  EXPECT_GT(pauses_.size(), 4u);
}

TEST_F(ResumingTest, ACallbackThatWantsNoMoreEndsItAtOnce) {
  OrreryClient client = Client(2);
  const auto answer = client.Generate({}, kPatience, [](const v1::Delta&) { return false; });
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(routers_[0].requests().size() + routers_[1].requests().size(), 1u);
}

TEST_F(ResumingTest, FindsTheRouterThatIsThere) {
  const std::string gone = servers_[0]->address();
  servers_[0].reset();
  auto client = OrreryClient::Connect({gone, servers_[1]->address()}, {}, kPatience);
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ(client->address(), servers_[1]->address());
  EXPECT_TRUE(client->ListModels().ok());
}

TEST_F(ResumingTest, AUnaryCallMovesOnFromARouterThatIsGone) {
  OrreryClient client = Client(2);
  const int first = CurrentOf(client);
  const std::string other = servers_[1 - first]->address();
  servers_[first].reset();
  EXPECT_TRUE(client.ListModels().ok());
  EXPECT_EQ(client.address(), other);
  servers_[1 - first].reset();
  EXPECT_EQ(client.ListModels().status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace orrery
