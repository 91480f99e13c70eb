// Answers that clients continue by another call, over real gRPC with ranks that follow a script.
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "services/router/router_service_fixture.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ResumeTest : public RouterServiceTest {
 protected:
  // The request again, behind the first `num_ids` of the one choice that was heard.
  static v1::GenerateRequest Resumed(v1::GenerateRequest request, const Heard& heard, int num_ids) {
    v1::Resume& resume = *request.mutable_resume();
    resume.set_token(heard.started.resume_token());
    resume.set_attempt(1);
    v1::ReceivedChoice& received = *resume.add_received();
    for (int i = 0; i < num_ids; ++i) received.add_id(heard.deltas[i].id());
    return request;
  }

  // A rank that gives these ids, of a replay those that are missing.
  static Script GivesRestOf(const std::vector<int32_t>& ids) {
    return [=](grpc::ServerContext&, const internal::SequenceRequest& request, Writer& writer) {
      const size_t begin = request.so_far_size() == 0 ? 0 : request.so_far(0).id_size();
      for (size_t i = begin; i < ids.size(); ++i) WriteToken(writer, ids[i]);
      WriteEnd(writer, 0, internal::END_REASON_LENGTH);
      return grpc::Status::OK;
    };
  }
};

// Thinking, and a character of three tokens.
TEST_F(ResumeTest, GoesOnBehindEveryTokenWithTheSameTextsAndCounts) {
  std::vector<int32_t> ids = TinyIds("ok");
  ids.push_back(kTinyEndThink);
  for (const int32_t id : TinyIds("a\xe2\x82\xac!")) ids.push_back(id);
  ranks_[0].script = ranks_[1].script = GivesRestOf(ids);
  v1::GenerateRequest request = Question();
  request.set_temperature(0.5f);  // and no seed: the token knows it
  const Heard whole = Generate(request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  EXPECT_EQ(whole.reasoning, "ok");
  EXPECT_EQ(whole.content, "a\xe2\x82\xac!");
  for (int cut = 0; cut <= static_cast<int>(ids.size()); ++cut) {
    const Heard rest = Generate(Resumed(request, whole, cut));
    ASSERT_TRUE(rest.status.ok()) << cut << ": " << rest.status.error_message();
    EXPECT_EQ(rest.started.SerializeAsString(), whole.started.SerializeAsString());
    ASSERT_EQ(rest.deltas.size(), ids.size() - cut);
    for (size_t i = 0; i < rest.deltas.size(); ++i) {
      EXPECT_EQ(rest.deltas[i].SerializeAsString(), whole.deltas[cut + i].SerializeAsString());
    }
    EXPECT_EQ(rest.finished.SerializeAsString(), whole.finished.SerializeAsString());
  }
  EXPECT_EQ(NumOpenRequests(), 0);
}

// The router that goes on may have a larger context, as when the cluster's drafts were turned off meanwhile.
TEST_F(ResumeTest, KeepsTheLengthThatWasFilledInWhereTheClientSaidNone) {
  const std::vector<int32_t> ids = TinyIds("ok");
  int max_new_tokens = 0;
  ranks_[0].script = ranks_[1].script =
      [&](grpc::ServerContext& context, const internal::SequenceRequest& request, Writer& writer) {
        max_new_tokens = request.max_new_tokens();
        return GivesRestOf(ids)(context, request, writer);
      };
  const v1::GenerateRequest request = Question();
  ASSERT_EQ(request.max_new_tokens(), 0);
  const Heard whole = Generate(request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  const int first = max_new_tokens;
  ++model_.max_context_tokens;
  const Heard rest = Generate(Resumed(request, whole, 1));
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(max_new_tokens, first);
}

// A client knows ids and no cuts: the rank says again where the last ones were cut. Two tokens that are one
// character, of which the stop string is made.
TEST_F(ResumeTest, AStopStringIsCutWhereItWouldHaveBeen) {
  ranks_[0].script = [](grpc::ServerContext&, const internal::SequenceRequest& request,
                        Writer& writer) {
    writer.GoTo(0, request.so_far_size() == 0 ? 0 : 1);
    if (request.so_far_size() == 0) WriteToken(writer, TinyByteId('a'), 0);
    WriteToken(writer, TinyByteId(0xc3), 0, /*text_bytes=*/0);
    WriteToken(writer, TinyByteId(0xa9), 0, /*text_bytes=*/0);
    WriteEnd(writer, 0, internal::END_REASON_STOP, "\xc3\xa9");
    return grpc::Status::OK;
  };
  v1::GenerateRequest request = Question();
  request.add_stop("\xc3\xa9");
  const Heard whole = Generate(request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  EXPECT_EQ(whole.texts.at(0), "a");
  const Heard rest = Generate(Resumed(request, whole, 2));
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  ASSERT_EQ(rest.deltas.size(), 1u);
  EXPECT_EQ(rest.deltas[0].text(), "");
  EXPECT_EQ(rest.finished.stop(), "\xc3\xa9");
}

TEST_F(ResumeTest, ChoicesThatFinishedStayFinished) {
  internal::SequenceRequest seen;
  ranks_[0].script = [&](grpc::ServerContext&, const internal::SequenceRequest& request,
                         Writer& writer) {
    seen = request;
    if (request.so_far_size() == 0) {
      WriteToken(writer, TinyByteId('a'), 0);
      WriteEnd(writer, 0, internal::END_REASON_STOP);
      WriteToken(writer, TinyByteId('x'), 1);
    }
    WriteToken(writer, TinyByteId('y'), 1);
    WriteEnd(writer, 1, internal::END_REASON_LENGTH);
    return grpc::Status::OK;
  };
  v1::GenerateRequest request = Question();
  request.set_num_choices(2);
  const Heard whole = Generate(request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  v1::Resume& resume = *request.mutable_resume();
  resume.set_token(whole.started.resume_token());
  resume.set_attempt(1);
  resume.add_received()->set_finished(true);
  resume.add_received()->add_id(TinyByteId('x'));
  const Heard rest = Generate(request);
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_TRUE(seen.so_far(0).has_ended());
  EXPECT_THAT(seen.so_far(1).id(), ElementsAre(TinyByteId('x')));
  EXPECT_EQ(rest.texts.at(1), "y");
  EXPECT_EQ(rest.ends.size(), 1u);
}

TEST_F(ResumeTest, EndsTheCallThatItTakesOverFromAndNotTheOtherWayRound) {
  // The first call hangs behind its first token; whoever resumes gets the rest.
  absl::Notification is_over;
  ranks_[0].script = ranks_[1].script =
      [&](grpc::ServerContext& context, const internal::SequenceRequest& request, Writer& writer) {
        if (request.so_far_size() > 0) {
          return GivesRestOf(TinyIds("abc"))(context, request, writer);
        }
        WriteToken(writer, TinyByteId('a'));
        is_over.WaitForNotificationWithTimeout(kPatience);
        return grpc::Status::CANCELLED;
      };
  const v1::GenerateRequest request = Question();
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, request);
  Heard heard;
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  heard.started = response.started();
  ASSERT_TRUE(reader->Read(&response));
  heard.deltas.push_back(response.delta());
  const Heard rest = Generate(Resumed(request, heard, 1));
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.texts.at(0), "bc");
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status older = reader->Finish();
  is_over.Notify();
  for (auto& server : rank_servers_) server->Stop(absl::Now() + kPatience);  // scripts wait for it
  EXPECT_EQ(older.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(older.error_message(), HasSubstr("after 1 tokens another call"));
  EXPECT_TRUE(state_.AwaitNoneOpen(absl::Now() + kPatience));
}

TEST_F(ResumeTest, AnAttemptThatComesLateIsRefused) {
  ranks_[0].script = ranks_[1].script = GivesRestOf(TinyIds("abc"));
  const Heard whole = Generate(Question());
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  absl::Notification is_over;
  ranks_[0].script = ranks_[1].script = [&](grpc::ServerContext&, const internal::SequenceRequest&,
                                            Writer& writer) {
    WriteToken(writer, TinyByteId('b'));
    is_over.WaitForNotificationWithTimeout(kPatience);
    return grpc::Status::CANCELLED;
  };
  v1::GenerateRequest request = Resumed(Question(), whole, 1);
  request.mutable_resume()->set_attempt(2);
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));  // so it is open
  request.mutable_resume()->set_attempt(1);
  const grpc::Status late = Generate(request).status;
  EXPECT_EQ(late.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(late.error_message(), HasSubstr("attempt 2 is under way"));
  EXPECT_TRUE(reader->Read(&response));
  context.TryCancel();
  reader->Finish();
  is_over.Notify();
  for (auto& server : rank_servers_) server->Stop(absl::Now() + kPatience);  // scripts wait for it
  EXPECT_TRUE(state_.AwaitNoneOpen(absl::Now() + kPatience));
}

TEST_F(ResumeTest, RefusesWhatIsNotTheAnswersContinuation) {
  ranks_[0].script = ranks_[1].script = GivesRestOf(TinyIds("abc"));
  const Heard whole = Generate(Question());
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  const auto refusal = [&](const v1::GenerateRequest& request) {
    const grpc::Status status = Generate(request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  v1::GenerateRequest request = Resumed(Question(), whole, 1);
  request.set_tenant("somebody-else");
  EXPECT_THAT(refusal(request), HasSubstr("another request"));
  request = Resumed(Question(), whole, 1);
  request.mutable_resume()->set_attempt(0);
  EXPECT_THAT(refusal(request), HasSubstr("resume.attempt is 0"));
  request = Resumed(Question(), whole, 1);
  request.mutable_resume()->add_received();
  EXPECT_THAT(refusal(request), HasSubstr("2 entries, it must have one for each of the 1"));
  request = Resumed(Question(), whole, 1);
  request.mutable_resume()->mutable_received(0)->set_finished(true);
  EXPECT_THAT(refusal(request), HasSubstr("every choice has finished"));
  request = Resumed(Question(), whole, 1);
  request.mutable_resume()->mutable_received(0)->add_id(kTinyVocabSize);
  EXPECT_THAT(refusal(request), HasSubstr("vocabulary"));
  request = Resumed(Question(), whole, 0);
  for (int i = 0; i < 1000; ++i) {
    request.mutable_resume()->mutable_received(0)->add_id(TinyByteId('a'));
  }
  EXPECT_THAT(refusal(request), HasSubstr("has 1000 ids, max_new_tokens is"));
  request = Resumed(Question(), whole, 1);
  request.mutable_resume()->mutable_token()->back() ^= 1;
  const grpc::Status damaged = Generate(request).status;
  EXPECT_EQ(damaged.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(damaged.error_message(), HasSubstr("another key"));
}

}  // namespace
}  // namespace orrery
