// The service against attention ranks that follow a script, over real gRPC.
#include "services/router/router_service.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/server.h"
#include "services/router/tiny_model.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr absl::Duration kPatience = absl::Seconds(30);

using Writer = grpc::ServerWriter<internal::SequenceEvent>;
using Script =
    std::function<grpc::Status(grpc::ServerContext&, const internal::SequenceRequest&, Writer&)>;

ServerOptions AnyPort() {
  ServerOptions options;
  options.address = "127.0.0.1:0";
  return options;
}

class FakeRank : public internal::Attention::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const internal::SequenceRequest* request,
                        Writer* writer) override {
    return script(*context, *request, *writer);
  }
  Script script;
};

void WriteToken(Writer& writer, int32_t id) {
  internal::SequenceEvent event;
  event.mutable_token()->set_id(id);
  event.mutable_token()->set_logprob(-0.25f);
  internal::IdLogprob& top = *event.mutable_token()->add_top();
  top.set_id(TinyByteId('z'));
  top.set_logprob(-1.5f);
  writer.Write(event);
}

void WriteToken(Writer& writer, int32_t id, int choice, std::optional<int> text_bytes = {}) {
  internal::SequenceEvent event;
  event.mutable_token()->set_id(id);
  event.mutable_token()->set_choice(choice);
  if (text_bytes.has_value()) event.mutable_token()->set_text_bytes(*text_bytes);
  writer.Write(event);
}

void WriteEnd(Writer& writer, int choice, internal::EndReason reason,
              const std::string& stop_string = "") {
  internal::SequenceEvent event;
  internal::SequenceEnd& end = *event.mutable_end();
  end.set_choice(choice);
  end.set_reason(reason);
  end.set_stop_string(stop_string);
  end.set_prompt_tokens(6);
  end.set_output_tokens(10 + choice);
  end.set_cached_prompt_tokens(4);
  end.set_drafted_tokens(8);
  end.set_accepted_draft_tokens(7);
  writer.Write(event);
}

// A rank that gives these ids and ends.
Script Gives(const std::vector<int32_t>& ids, internal::EndReason reason) {
  return [=](grpc::ServerContext&, const internal::SequenceRequest& request, Writer& writer) {
    for (const int32_t id : ids) WriteToken(writer, id);
    internal::SequenceEvent event;
    event.mutable_end()->set_reason(reason);
    event.mutable_end()->set_prompt_tokens(request.prompt_ids_size());
    event.mutable_end()->set_output_tokens(static_cast<int>(ids.size()));
    writer.Write(event);
    return grpc::Status::OK;
  };
}

// A rank that gives these ids and then fails.
Script Fails(const std::vector<int32_t>& ids, grpc::StatusCode code) {
  return [=](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
    for (const int32_t id : ids) WriteToken(writer, id);
    return grpc::Status(code, "as the script says");
  };
}

struct Heard {
  grpc::Status status;
  v1::Started started;
  std::vector<v1::Delta> deltas;
  v1::Finished finished;  // the last one
  std::string reasoning, content;
  // Of each choice: its text, and its end.
  std::map<int, std::string> texts;
  std::map<int, v1::Finished> ends;
};

class RouterServiceTest : public ::testing::Test {
 protected:
  RouterServiceTest()
      : model_(MakeTinyModel()),
        state_(RouterCore({.max_open_requests = 8},
                          Membership({{internal::ROLE_ATTENTION, "attention-0", "h:1"},
                                      {internal::ROLE_ATTENTION, "attention-1", "h:2"}},
                                     model_.fingerprint))) {}

  void SetUp() override {
    RouterService::RankChannels channels;
    for (int i = 0; i < 2; ++i) {
      auto server = Server::Start(AnyPort(), {&ranks_[i]});
      ASSERT_TRUE(server.ok()) << server.status();
      rank_servers_.push_back(*std::move(server));
      channels[i] = MakeChannel(rank_servers_[i]->address(), {}).value();
      SayReady(i);
    }
    service_ = std::make_unique<RouterService>(
        RouterService::Options{.self = {internal::ROLE_ROUTER, "router-0", "h:0"}}, &model_,
        &state_, channels);
    auto server = Server::Start(AnyPort(), {service_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    router_server_ = *std::move(server);
    channel_ = MakeChannel(router_server_->address(), {}).value();
    stub_ = v1::Orrery::NewStub(channel_);
  }

  void SayReady(int rank) {
    internal::MemberDescription description;
    description.set_name(absl::StrCat("attention-", rank));
    description.set_role(internal::ROLE_ATTENTION);
    description.set_state(internal::MEMBER_STATE_READY);
    description.mutable_fingerprint()->set_config_hash("c0");
    absl::MutexLock lock(&state_.mutex);
    state_.core.OnDescription(rank, description);
  }

  Heard Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context, absl::Now() + kPatience);
    Heard heard;
    const auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (response.has_started()) heard.started = response.started();
      if (response.has_finished()) {
        heard.finished = response.finished();
        EXPECT_TRUE(heard.ends.emplace(heard.finished.choice(), heard.finished).second);
      }
      if (!response.has_delta()) continue;
      heard.deltas.push_back(response.delta());
      heard.texts[response.delta().choice()] += response.delta().text();
      (response.delta().kind() == v1::DELTA_KIND_REASONING ? heard.reasoning : heard.content) +=
          response.delta().text();
    }
    heard.status = reader->Finish();
    return heard;
  }

  int NumOpenRequests() {
    absl::MutexLock lock(&state_.mutex);
    return state_.core.num_open_requests();
  }

  static v1::GenerateRequest Question() {
    v1::GenerateRequest request;
    v1::ChatMessage& message = *request.mutable_messages()->add_message();
    message.set_role(v1::MESSAGE_ROLE_USER);
    message.set_content("7+8?");
    return request;
  }

  const ServedModel model_;
  RouterState state_;
  FakeRank ranks_[2];
  std::vector<std::unique_ptr<Server>> rank_servers_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<Server> router_server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Orrery::Stub> stub_;
};

TEST_F(RouterServiceTest, StreamsTypedDeltasFromTheRank) {
  std::vector<int32_t> ids = TinyIds("ok");
  ids.push_back(kTinyEndThink);
  for (const int32_t id : TinyIds("15")) ids.push_back(id);
  ids.push_back(kTinyEos);
  internal::SequenceRequest seen;
  ranks_[0].script = [&](grpc::ServerContext& context, const internal::SequenceRequest& request,
                         Writer& writer) {
    seen = request;
    return Gives(ids, internal::END_REASON_STOP)(context, request, writer);
  };
  v1::GenerateRequest request = Question();
  request.set_seed(77);
  request.set_temperature(0.5f);
  request.set_max_new_tokens(9);
  const Heard heard = Generate(request);
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.reasoning, "ok");
  EXPECT_EQ(heard.content, "15");
  EXPECT_EQ(heard.deltas.size(), ids.size());
  EXPECT_FALSE(heard.deltas[0].has_logprob());
  EXPECT_EQ(heard.started.seed(), 77);
  EXPECT_EQ(heard.started.model(), "tiny");
  EXPECT_EQ(heard.started.prompt_tokens(), seen.prompt_ids_size());
  EXPECT_EQ(heard.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(heard.finished.usage().output_tokens(), 6);
  EXPECT_EQ(heard.finished.usage().reasoning_tokens(), 3);
  EXPECT_EQ(seen.request_id(), heard.started.request_id());
  EXPECT_EQ(seen.max_new_tokens(), 9);
  EXPECT_EQ(seen.sampling().seed(), 77);
  EXPECT_THAT(seen.stop_ids(), ElementsAre(kTinyEos));
  EXPECT_EQ(NumOpenRequests(), 0);
}

TEST_F(RouterServiceTest, ReportsLogprobsWithTheBytesOfTheAlternatives) {
  ranks_[0].script = Gives(TinyIds("a"), internal::END_REASON_LENGTH);
  v1::GenerateRequest request = Question();
  request.set_logprobs(true);
  request.set_num_top_logprobs(1);
  const Heard heard = Generate(request);
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  ASSERT_EQ(heard.deltas.size(), 1);
  EXPECT_EQ(heard.deltas[0].logprob(), -0.25f);
  ASSERT_EQ(heard.deltas[0].top_size(), 1);
  EXPECT_EQ(heard.deltas[0].top(0).token(), "z");
  EXPECT_EQ(heard.deltas[0].top(0).logprob(), -1.5f);
  EXPECT_EQ(heard.finished.reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(RouterServiceTest, StreamsSeveralChoicesEachWithItsOwnEnd) {
  ranks_[0].script = [](grpc::ServerContext&, const internal::SequenceRequest& request,
                        Writer& writer) {
    EXPECT_EQ(request.num_choices(), 3);
    WriteToken(writer, TinyByteId('a'), 0);
    WriteToken(writer, kTinyEndThink, 2);
    WriteToken(writer, TinyByteId('b'), 1);
    WriteToken(writer, kTinyEos, 1);
    WriteEnd(writer, 1, internal::END_REASON_STOP);
    WriteToken(writer, TinyByteId('c'), 2);
    WriteToken(writer, TinyByteId('d'), 0);
    WriteEnd(writer, 0, internal::END_REASON_LENGTH);
    WriteToken(writer, kTinyEos, 2);
    WriteEnd(writer, 2, internal::END_REASON_STOP);
    return grpc::Status::OK;
  };
  v1::GenerateRequest request = Question();
  request.set_num_choices(3);
  const Heard heard = Generate(request);
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_THAT(heard.texts, ElementsAre(Pair(0, "ad"), Pair(1, "b"), Pair(2, "c")));
  EXPECT_EQ(heard.content, "c");  // of the only choice that closed its thinking
  ASSERT_EQ(heard.ends.size(), 3);
  EXPECT_EQ(heard.finished.choice(), 2);
  EXPECT_EQ(heard.ends.at(0).reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(heard.ends.at(1).reason(), v1::FINISH_REASON_STOP);
  for (const auto& [choice, end] : heard.ends) {
    EXPECT_EQ(end.usage().prompt_tokens(), 6);
    EXPECT_EQ(end.usage().output_tokens(), 10 + choice);
    EXPECT_EQ(end.usage().cached_prompt_tokens(), 4);
    EXPECT_EQ(end.usage().drafted_tokens(), 8);
    EXPECT_EQ(end.usage().accepted_draft_tokens(), 7);
  }
  EXPECT_EQ(heard.ends.at(2).usage().reasoning_tokens(), 1);
  EXPECT_EQ(NumOpenRequests(), 0);
}

TEST_F(RouterServiceTest, CutsTheTextWhereTheRankSaysAndNamesTheStopString) {
  ranks_[0].script = [](grpc::ServerContext&, const internal::SequenceRequest& request,
                        Writer& writer) {
    EXPECT_THAT(request.stop_strings(), ElementsAre("xy"));
    WriteToken(writer, kTinyEndThink, 0);
    WriteToken(writer, TinyByteId('a'), 0);
    WriteToken(writer, TinyByteId('x'), 0, 0);
    WriteToken(writer, TinyByteId('y'), 0, 0);
    WriteEnd(writer, 0, internal::END_REASON_STOP, "xy");
    return grpc::Status::OK;
  };
  v1::GenerateRequest request = Question();
  request.add_stop("xy");
  const Heard heard = Generate(request);
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.content, "a");
  EXPECT_EQ(heard.deltas.size(), 4);  // one per token all the same
  EXPECT_EQ(heard.finished.stop(), "xy");
}

TEST_F(RouterServiceTest, FlushesAnUnfinishedCharacterAtTheLastTokenOfEachChoice) {
  ranks_[0].script = [](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
    for (const int choice : {0, 1}) {
      WriteToken(writer, kTinyEndThink, choice);
      WriteToken(writer, TinyByteId(0xe2), choice);
      WriteEnd(writer, choice, internal::END_REASON_LENGTH);
    }
    return grpc::Status::OK;
  };
  v1::GenerateRequest request = Question();
  request.set_num_choices(2);
  request.set_max_new_tokens(2);
  const Heard heard = Generate(request);
  EXPECT_THAT(heard.texts, ElementsAre(Pair(0, "\xef\xbf\xbd"), Pair(1, "\xef\xbf\xbd")));
}

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

TEST_F(RouterServiceTest, DrawsAnotherSeedForEachRequestThatHasNone) {
  ranks_[0].script = ranks_[1].script = Gives({kTinyEos}, internal::END_REASON_STOP);
  EXPECT_NE(Generate(Question()).started.seed(), Generate(Question()).started.seed());
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

TEST_F(RouterServiceTest, SaysHowFarAnAnswerCameWhenItsRankFails) {
  ranks_[0].script = Fails(TinyIds("ab"), grpc::StatusCode::UNAVAILABLE);
  const Heard heard = Generate(Question());
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(heard.status.error_message(),
              AllOf(HasSubstr("attention-0 failed after 2 tokens"), HasSubstr("script")));
  EXPECT_EQ(heard.deltas.size(), 2);
}

TEST_F(RouterServiceTest, AStreamThatEndsWithoutAResultIsAnError) {
  ranks_[0].script = Fails(TinyIds("a"), grpc::StatusCode::OK);
  EXPECT_EQ(Generate(Question()).status.error_code(), grpc::StatusCode::INTERNAL);
}

TEST_F(RouterServiceTest, PassesTheDeadlineOfTheClientOn) {
  absl::Time seen;
  ranks_[0].script = [&](grpc::ServerContext& context, const internal::SequenceRequest& request,
                         Writer& writer) {
    seen = DeadlineOf(context);
    return Gives({kTinyEos}, internal::END_REASON_STOP)(context, request, writer);
  };
  ASSERT_TRUE(Generate(Question()).status.ok());
  // It travels as a rounded time to go, so it may arrive a little later than it was.
  EXPECT_LT(seen, absl::Now() + 2 * kPatience);
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
  {
    absl::MutexLock lock(&state_.mutex);
    state_.core.OnUnreachable(0, "connection refused");
    state_.core.OnUnreachable(1, "connection refused");
  }
  const Heard heard = Generate(Question());
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(heard.status.error_message(),
              AllOf(HasSubstr("attention-0"), HasSubstr("attention-1"), HasSubstr("refused")));
}

TEST_F(RouterServiceTest, TokenizesAndDetokenizes) {
  v1::TokenizeRequest request;
  *request.mutable_messages() = Question().messages();
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Tokenize(&context, request, &response).ok());
  EXPECT_THAT(response.id(),
              ElementsAre(kTinyBos, kTinyUser, TinyByteId('7'), TinyByteId('+'), TinyByteId('8'),
                          TinyByteId('?'), kTinyAssistant, kTinyThink, TinyByteId('\n')));
  v1::DetokenizeRequest back;
  *back.mutable_id() = response.id();
  v1::DetokenizeResponse text;
  grpc::ClientContext context_2;
  ASSERT_TRUE(stub_->Detokenize(&context_2, back, &text).ok());
  EXPECT_THAT(text.text(), HasSubstr("7+8?"));
  back.add_id(kTinyVocabSize);
  grpc::ClientContext context_3;
  EXPECT_EQ(stub_->Detokenize(&context_3, back, &text).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(RouterServiceTest, ShowsTheCountersOfTheMembers) {
  internal::MemberDescription description;
  description.set_name("attention-0");
  description.set_role(internal::ROLE_ATTENTION);
  description.set_state(internal::MEMBER_STATE_READY);
  description.mutable_fingerprint()->set_config_hash("c0");
  description.mutable_load()->set_kv_blocks_cached(11);
  description.mutable_load()->set_kv_blocks_leaked(12);
  description.mutable_load()->set_prefix_hit_tokens(13);
  description.mutable_load()->set_prefix_miss_tokens(14);
  description.mutable_load()->set_kv_evictions(15);
  description.mutable_load()->set_preemptions(16);
  description.mutable_load()->set_drafted_tokens(17);
  description.mutable_load()->set_accepted_draft_tokens(18);
  description.mutable_shard_load()->set_frames(19);
  description.mutable_shard_load()->set_groups(20);
  {
    absl::MutexLock lock(&state_.mutex);
    state_.core.OnDescription(0, description);
  }
  v1::ClusterStatusResponse status;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->ClusterStatus(&context, {}, &status).ok());
  const v1::MemberStatus& member = status.member(1);
  EXPECT_EQ(member.kv_blocks_cached(), 11);
  EXPECT_EQ(member.kv_blocks_leaked(), 12);
  EXPECT_EQ(member.prefix_hit_tokens(), 13);
  EXPECT_EQ(member.prefix_miss_tokens(), 14);
  EXPECT_EQ(member.kv_evictions(), 15);
  EXPECT_EQ(member.preemptions(), 16);
  EXPECT_EQ(member.drafted_tokens(), 17);
  EXPECT_EQ(member.accepted_draft_tokens(), 18);
  EXPECT_EQ(member.frames(), 19);
  EXPECT_EQ(member.frame_groups(), 20);
}

TEST_F(RouterServiceTest, ListsTheModelAndTheMembers) {
  v1::ListModelsResponse models;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->ListModels(&context, {}, &models).ok());
  ASSERT_EQ(models.model_size(), 1);
  EXPECT_EQ(models.model(0).name(), "tiny");
  EXPECT_EQ(models.model(0).max_context_tokens(), model_.max_context_tokens);
  v1::ClusterStatusResponse status;
  grpc::ClientContext context_2;
  ASSERT_TRUE(stub_->ClusterStatus(&context_2, {}, &status).ok());
  EXPECT_TRUE(status.ready());
  ASSERT_EQ(status.member_size(), 3);
  EXPECT_EQ(status.member(0).name(), "router-0");
  EXPECT_EQ(status.member(0).state(), "ready");
  EXPECT_EQ(status.member(1).role(), "attention");
}

}  // namespace
}  // namespace orrery
