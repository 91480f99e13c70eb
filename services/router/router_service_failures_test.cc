// The service against ranks that fail, and clients that ask badly or go away.
#include <atomic>
#include <functional>
#include <vector>

#include "absl/synchronization/notification.h"
#include "services/router/router_service_fixture.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_F(RouterServiceTest, ARankThatSendsChoicesThatCannotBeIsAnErrorAndNoCrash) {
  const auto error_of = [&](const std::function<void(Writer&)>& script) {
    ranks_[0].script = ranks_[1].script = [&](grpc::ServerContext&,
                                              const internal::SequenceRequest&, Writer& writer) {
      script(writer);
      return grpc::Status::OK;
    };
    v1::GenerateRequest request = Question();
    request.set_num_choices(2);
    const Heard heard = Generate(request);
    EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::INTERNAL);
    EXPECT_EQ(NumOpenRequests(), 0);
    return heard.status.error_message();
  };
  EXPECT_THAT(error_of([](Writer& writer) { WriteToken(writer, 7, 2); }),
              HasSubstr("choice 2 of 2"));
  EXPECT_THAT(error_of([](Writer& writer) { WriteEnd(writer, -1, internal::END_REASON_STOP); }),
              HasSubstr("choice -1 of 2"));
  EXPECT_THAT(error_of([](Writer& writer) {
                WriteEnd(writer, 0, internal::END_REASON_STOP);
                WriteToken(writer, 7, 0);
              }),
              HasSubstr("choice 0 after its end"));
  EXPECT_THAT(error_of([](Writer& writer) { WriteEnd(writer, 0, internal::END_REASON_STOP); }),
              HasSubstr("without a result"));
}

TEST_F(RouterServiceTest, PassesOnWhenARankThatIsFullSaysToTryAgain) {
  ranks_[0].script = ranks_[1].script = [](grpc::ServerContext& context,
                                           const internal::SequenceRequest&, Writer&) {
    context.AddTrailingMetadata("retry-after-ms", "1234");
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  };
  const Heard heard = Generate(Question());
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(heard.retry_after, absl::Milliseconds(1234));
}

TEST_F(RouterServiceTest, DoesNotAskRanksThatHaveSaidToBeTooLate) {
  std::atomic<int> num_asked = 0;
  ranks_[0].script = ranks_[1].script = [&](grpc::ServerContext& context,
                                            const internal::SequenceRequest&, Writer&) {
    ++num_asked;
    context.AddTrailingMetadata("retry-after-ms", "1234");
    context.AddTrailingMetadata("needed-time-ms", "100000000");
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  };
  for (int i = 0; i < 2; ++i) {
    const Heard heard = Generate(Question());
    EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_TRUE(heard.retry_after.has_value());
  }
  EXPECT_EQ(num_asked, 2) << "the first request each of them, the second none";
}

TEST_F(RouterServiceTest, RefusesABadRequestBeforeAnyRankSeesIt) {
  v1::GenerateRequest request = Question();
  request.set_model("big");
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::NOT_FOUND);
  request.set_model("");
  request.set_temperature(-1);
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(RouterServiceTest, CallsTextThatIsNotUtf8ByItsName) {
  v1::GenerateRequest request;
  request.set_text("\xff\xfe");
  const grpc::Status status = Generate(request).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("UTF-8"));
  v1::TokenizeRequest tokenize;
  tokenize.set_text("\xff");
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kPatience);
  EXPECT_EQ(stub_->Tokenize(&context, tokenize, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(RouterServiceTest, TriesTheOtherRankWhenTheFirstFailsBeforeItsFirstToken) {
  ranks_[0].script = Fails({}, grpc::StatusCode::UNAVAILABLE);
  ranks_[1].script = Gives({TinyByteId('a'), kTinyEos}, internal::END_REASON_STOP);
  const Heard heard = Generate(Question());
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.deltas.size(), 2);
}

TEST_F(RouterServiceTest, SaysHowFarAnAnswerCameWhenItsRankFailsForGood) {
  ranks_[0].script = Fails(TinyIds("ab"), grpc::StatusCode::FAILED_PRECONDITION);
  const Heard heard = Generate(Question());
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(heard.status.error_message(),
              AllOf(HasSubstr("attention-0 failed after 2 tokens"), HasSubstr("script")));
  EXPECT_EQ(heard.deltas.size(), 2);
}

TEST_F(RouterServiceTest, AStreamThatEndsWithoutAResultIsAnError) {
  ranks_[0].script = Fails(TinyIds("a"), grpc::StatusCode::OK);
  EXPECT_EQ(Generate(Question()).status.error_code(), grpc::StatusCode::INTERNAL);
}

TEST_F(RouterServiceTest, CancelsTheRankWhenTheClientCancels) {
  absl::Notification rank_cancelled, rank_started;
  ranks_[0].script = [&](grpc::ServerContext& context, const internal::SequenceRequest&,
                         Writer& writer) {
    WriteToken(writer, TinyByteId('a'));
    rank_started.Notify();
    // Writes until the cancellation arrives; gRPC has no way to wait for it.
    const absl::Time patience = absl::Now() + kPatience;
    while (!context.IsCancelled() && absl::Now() < patience) WriteToken(writer, TinyByteId('a'));
    if (context.IsCancelled()) rank_cancelled.Notify();
    return grpc::Status::CANCELLED;
  };
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Question());
  ASSERT_TRUE(rank_started.WaitForNotificationWithTimeout(kPatience));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(rank_cancelled.WaitForNotificationWithTimeout(kPatience));
  router_server_->Stop(absl::Now() + kPatience);
  EXPECT_EQ(NumOpenRequests(), 0);
}

TEST_F(RouterServiceTest, SaysWhyNoRankIsReady) {
  state_.With([](RouterCore& core) {
    core.OnUnreachable(0, "connection refused");
    core.OnUnreachable(1, "connection refused");
  });
  const Heard heard = Generate(Question());
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(heard.status.error_message(),
              AllOf(HasSubstr("attention-0"), HasSubstr("attention-1"), HasSubstr("refused")));
}

}  // namespace
}  // namespace orrery
