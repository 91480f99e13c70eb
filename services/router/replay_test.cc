// Answers whose rank is lost, over real gRPC with ranks that follow a script.
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "services/router/router_service_fixture.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReplayTest : public RouterServiceTest {
 protected:
  explicit ReplayTest(const Setup& setup = {}) : RouterServiceTest(setup) {}

  // Remembers what it was asked.
  Script Seen(internal::SequenceRequest* seen, const Script& script) {
    return [=](grpc::ServerContext& context, const internal::SequenceRequest& request,
               Writer& writer) {
      *seen = request;
      return script(context, request, writer);
    };
  }
};

TEST_F(ReplayTest, AnAnswerWhoseRankDiesGoesOnAtAnotherAndTheClientSeesOneAnswer) {
  ranks_[0].script = Fails(TinyIds("on"), grpc::StatusCode::UNAVAILABLE);
  internal::SequenceRequest seen;
  ranks_[1].script = Seen(&seen, Gives(TinyIds("e."), internal::END_REASON_LENGTH));
  v1::GenerateRequest request = Question();
  request.set_seed(5);
  const Heard heard = Generate(request);
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.texts.at(0), "one.");
  EXPECT_EQ(heard.deltas.size(), 4u);
  ASSERT_EQ(seen.so_far_size(), 1);
  EXPECT_THAT(seen.so_far(0).id(), ElementsAre(TinyByteId('o'), TinyByteId('n')));
  EXPECT_FALSE(seen.so_far(0).has_ended());
  EXPECT_EQ(seen.request_id(), heard.started.request_id());
  EXPECT_EQ(seen.attempt(), 1u);
  EXPECT_EQ(seen.sampling().seed(), 5u);
  EXPECT_EQ(NumOpenRequests(), 0);
}

TEST_F(ReplayTest, ARankThatStopsHandsItsAnswersOver) {
  ranks_[0].script = Fails(TinyIds("a"), grpc::StatusCode::CANCELLED);
  ranks_[1].script = Gives(TinyIds("b"), internal::END_REASON_LENGTH);
  const Heard heard = Generate(Question());
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.texts.at(0), "ab");
}

TEST_F(ReplayTest, ChoicesThatHaveEndedAreNotAskedForAgain) {
  ranks_[0].script = [](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
    WriteToken(writer, TinyByteId('a'), 0);
    WriteToken(writer, TinyByteId('x'), 1);
    WriteEnd(writer, 0, internal::END_REASON_STOP, "!");
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  };
  internal::SequenceRequest seen;
  ranks_[1].script =
      Seen(&seen, [](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
        WriteToken(writer, TinyByteId('y'), 1);
        WriteToken(writer, TinyByteId('b'), 2);
        WriteEnd(writer, 2, internal::END_REASON_STOP);
        WriteEnd(writer, 1, internal::END_REASON_LENGTH);
        return grpc::Status::OK;
      });
  v1::GenerateRequest request = Question();
  request.set_num_choices(3);
  const Heard heard = Generate(request);
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  ASSERT_EQ(seen.so_far_size(), 3);
  EXPECT_TRUE(seen.so_far(0).has_ended());
  EXPECT_THAT(seen.so_far(1).id(), ElementsAre(TinyByteId('x')));
  EXPECT_EQ(seen.so_far(2).id_size(), 0);
  EXPECT_EQ(heard.texts.at(0), "a");
  EXPECT_EQ(heard.texts.at(1), "xy");
  EXPECT_EQ(heard.texts.at(2), "b");
  EXPECT_EQ(heard.ends.at(0).stop(), "!");
}

// What the next rank tells again of what it held back is neither shown twice nor cut differently.
TEST_F(ReplayTest, WhatIsToldAgainIsNotShownAgain) {
  ranks_[0].script = [](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
    WriteToken(writer, TinyByteId('a'), 0);
    WriteToken(writer, TinyByteId('E'), 0, /*text_bytes=*/0);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  };
  ranks_[1].script = [](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
    writer.GoTo(0, 1);
    WriteToken(writer, TinyByteId('E'), 0, /*text_bytes=*/0);
    WriteToken(writer, TinyByteId('N'), 0, /*text_bytes=*/0);
    WriteEnd(writer, 0, internal::END_REASON_STOP, "EN");
    return grpc::Status::OK;
  };
  const Heard heard = Generate(Question());
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.texts.at(0), "a");
  EXPECT_EQ(heard.deltas.size(), 3u);
}

TEST_F(ReplayTest, ARankThatTellsAnotherTokenThanBeforeOrLeavesOneOutIsAnErrorAndNotAWrongAnswer) {
  const auto error_of = [&](int index, char letter) {
    SayReady(0);
    SayReady(1);
    ranks_[0].script = Fails(TinyIds("ab"), grpc::StatusCode::UNAVAILABLE);
    ranks_[1].script = [=](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
      writer.GoTo(0, index);
      WriteToken(writer, TinyByteId(static_cast<unsigned char>(letter)));
      return grpc::Status::OK;
    };
    const Heard heard = Generate(Question());
    EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::INTERNAL);
    return heard.status.error_message();
  };
  EXPECT_THAT(error_of(1, 'x'), AllOf(HasSubstr("as token 1 of choice 0"), HasSubstr("before")));
  EXPECT_THAT(error_of(3, 'c'), HasSubstr("token 3 of choice 0, expected was 2"));
}

TEST_F(ReplayTest, WaitsForARankWhenNoneIsLeft) {
  ranks_[0].script = Fails(TinyIds("a"), grpc::StatusCode::UNAVAILABLE);
  ranks_[1].script = Fails(TinyIds("b"), grpc::StatusCode::UNAVAILABLE);
  Heard heard;
  absl::Notification is_over;
  std::thread client([&] {
    heard = Generate(Question());
    is_over.Notify();
  });
  // Until both have failed it and it waits.
  const absl::Time patience = absl::Now() + kPatience;
  const auto waits = [&] {
    return state_.With([](RouterCore& core) {
      return core.num_replays() == 1 && !core.IsReady() && core.num_open_requests() == 1;
    });
  };
  while (!waits() && absl::Now() < patience) std::this_thread::yield();
  ranks_[1].script = Gives(TinyIds("c"), internal::END_REASON_LENGTH);
  SayReady(1);
  EXPECT_TRUE(is_over.WaitForNotificationWithTimeout(kPatience));
  client.join();
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.texts.at(0), "abc");
}

TEST_F(ReplayTest, AClientThatGoesAwayWhileItsAnswerWaitsLeavesNothingOpen) {
  ranks_[0].script = ranks_[1].script = Fails(TinyIds("a"), grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Question());
  v1::GenerateResponse response;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(reader->Read(&response));  // started, and both tokens
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(state_.AwaitNoneOpen(absl::Now() + kPatience));
}

class ShortReplayTest : public ReplayTest {
 protected:
  static Setup InShort() {
    Setup setup;
    setup.service.max_request_time = absl::Milliseconds(300);
    return setup;
  }
  ShortReplayTest() : ReplayTest(InShort()) {}
};

TEST_F(ShortReplayTest, WaitsNoLongerThanTheDeadlineAndSaysWhatItWaitedFor) {
  ranks_[0].script = ranks_[1].script = Fails(TinyIds("a"), grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Question());
  v1::GenerateResponse response;
  while (reader->Read(&response)) continue;
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("waited for a rank"),
                                            HasSubstr("attention-1 failed after 2 tokens")));
}

}  // namespace
}  // namespace orrery
