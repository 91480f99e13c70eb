// The service against attention ranks that follow a script: answers, tokens, status.
#include "services/router/router_service.h"

#include <string>
#include <vector>

#include "services/router/router_service_fixture.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

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

TEST_F(RouterServiceTest, DrawsAnotherSeedForEachRequestThatHasNone) {
  ranks_[0].script = ranks_[1].script = Gives({kTinyEos}, internal::END_REASON_STOP);
  EXPECT_NE(Generate(Question()).started.seed(), Generate(Question()).started.seed());
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
  state_.With([&](RouterCore& core) { core.OnDescription(0, description); });
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
