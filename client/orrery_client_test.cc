#include "client/orrery_client.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/server.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(30);

// A router that answers "ab" with one token of thinking before it, then as told.
class FakeRouter : public v1::Orrery::Service {
 public:
  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    v1::GenerateResponse response;
    response.mutable_started()->set_seed(request->seed());
    writer->Write(response);
    const char* texts[] = {"think", "a", "b"};
    for (int i = 0; i < 3; ++i) {
      v1::Delta& delta = *response.mutable_delta();
      delta.set_kind(i == 0 ? v1::DELTA_KIND_REASONING : v1::DELTA_KIND_CONTENT);
      delta.set_text(texts[i]);
      delta.set_id(i);
      delta.set_index(i);
      delta.set_logprob(-0.5f * static_cast<float>(i));
      writer->Write(response);
    }
    response.mutable_finished()->mutable_usage()->set_output_tokens(3);
    if (ends_first_choice) writer->Write(response);
    for (const int choice : more_choices) {
      v1::Delta& delta = *response.mutable_delta();
      delta.set_choice(choice);
      delta.set_index(0);
      delta.set_kind(v1::DELTA_KIND_CONTENT);
      delta.set_text(absl::StrCat("more", choice));
      v1::TokenLogprob& top = *delta.add_top();
      top.set_id(9);
      writer->Write(response);
      response.mutable_finished()->set_choice(choice);
      writer->Write(response);
    }
    return end;
  }
  bool ends_first_choice = true;
  std::vector<int> more_choices;
  grpc::Status end;
};

class OrreryClientTest : public ::testing::Test {
 protected:
  OrreryClientTest() {
    ServerOptions options;
    options.address = "127.0.0.1:0";
    auto server = Server::Start(options, {&router_});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  OrreryClient Client() {
    return OrreryClient::Connect({server_->address()}, {}, kPatience).value();
  }

  FakeRouter router_;
  std::unique_ptr<Server> server_;
};

TEST_F(OrreryClientTest, CollectsAnAnswerAndShowsEveryDelta) {
  v1::GenerateRequest request;
  request.set_text("x");
  request.set_seed(5);
  int num_deltas = 0;
  const auto answer = Client().Generate(request, kPatience, [&](const v1::Delta&) {
    ++num_deltas;
    return true;
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(num_deltas, 3);
  EXPECT_EQ(answer->reasoning, "think");
  EXPECT_EQ(answer->content, "ab");
  EXPECT_THAT(answer->ids, ElementsAre(0, 1, 2));
  EXPECT_THAT(answer->logprobs, ElementsAre(0.0f, -0.5f, -1.0f));
  EXPECT_EQ(answer->started.seed(), 5);
  EXPECT_EQ(answer->finished.usage().output_tokens(), 3);
}

TEST_F(OrreryClientTest, KeepsChoicesApart) {
  router_.more_choices = {2, 1};
  v1::GenerateRequest request;
  request.set_num_choices(3);
  std::vector<int> choices;
  const auto answer = Client().Generate(request, kPatience, [&](const v1::Delta& delta) {
    choices.push_back(delta.choice());
    return true;
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(choices, ElementsAre(0, 0, 0, 2, 1));
  ASSERT_EQ(answer->num_choices(), 3);
  EXPECT_EQ(answer->choice(0).content, "ab");
  EXPECT_EQ(answer->choice(1).content, "more1");
  EXPECT_EQ(answer->choice(2).content, "more2");
  EXPECT_EQ(answer->choice(2).finished.choice(), 2);
  ASSERT_EQ(answer->choice(1).top.size(), 1);
  EXPECT_EQ(answer->choice(1).top[0][0].id(), 9);
}

TEST_F(OrreryClientTest, SaysWhenAStreamBreaksTheContract) {
  const auto error_of = [&](int num_choices) {
    v1::GenerateRequest request;
    request.set_num_choices(num_choices);
    const auto answer = Client().Generate(request, kPatience);
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal) << answer.status();
    return std::string(answer.status().message());
  };
  EXPECT_THAT(error_of(2), HasSubstr("after 1 of 2 choices"));
  EXPECT_THAT(error_of(2'000'000'000), HasSubstr("after 1 of 2000000000"));
  router_.more_choices = {2};
  EXPECT_THAT(error_of(2), HasSubstr("choice 2 of 2"));
  router_.more_choices = {};
  router_.ends_first_choice = false;
  EXPECT_THAT(error_of(0), HasSubstr("after 0 of 1"));
}

TEST_F(OrreryClientTest, GivesTheRoutersErrorAsItIs) {
  router_.end = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  const auto answer = Client().Generate({}, kPatience);
  EXPECT_EQ(answer.status(), absl::ResourceExhaustedError("full"));
}

TEST_F(OrreryClientTest, RefusesTextThatIsNotUtf8WithThePosition) {
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_messages()->add_message();
  message.set_content("ab\xff");
  const auto answer = Client().Generate(request, kPatience);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(answer.status().message()),
              HasSubstr("message 0 is not UTF-8 at byte 2"));
  request.clear_messages();
  request.add_stop("fine");
  request.add_stop("\xc3");
  EXPECT_THAT(std::string(Client().Generate(request, kPatience).status().message()),
              HasSubstr("stop string 1 is not UTF-8 at byte 0"));
}

TEST_F(OrreryClientTest, SaysWhenNobodyListens) {
  const std::string address = server_->address();
  server_.reset();
  const auto client = OrreryClient::Connect({address}, {}, absl::Milliseconds(50));
  EXPECT_EQ(client.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(client.status().message()), HasSubstr(address));
}

TEST(FindInvalidUtf8, KnowsGoodFromBad) {
  EXPECT_EQ(FindInvalidUtf8(""), -1);
  EXPECT_EQ(FindInvalidUtf8("aé€\xf0\x9f\x98\x80z"), -1);
  EXPECT_EQ(FindInvalidUtf8("ab\x80"), 2);
  EXPECT_EQ(FindInvalidUtf8("a\xc3"), 1);
  EXPECT_EQ(FindInvalidUtf8("\xc0\xaf"), 0);
  EXPECT_EQ(FindInvalidUtf8("\xe0\x80\x80"), 0);
  EXPECT_EQ(FindInvalidUtf8("\xed\xa0\x80"), 0);
  EXPECT_EQ(FindInvalidUtf8("\xf4\x90\x80\x80"), 0);
}

}  // namespace
}  // namespace orrery
