// What an engine answers, with the bundled model and shards in the same process: the tokens of the reference,
// and the same bits however they came about.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/engine_fixture.h"

namespace orrery {
namespace {

class EngineTest : public EngineFixture {};

TEST_F(EngineTest, GivesTheTokensOfTheReferenceAndEndsWithTheStopId) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  const auto engine = Start(*cluster);
  const Generated answer = TakeAll(*Submit(*engine, Request(0)));
  ASSERT_TRUE(answer.end.ok()) << answer.end.status();
  EXPECT_EQ(*answer.end, EndReason::kStop);
  EXPECT_EQ(answer.ids, (*problems_)[0].reference_ids);
  ExpectNothingUsed(*engine);
  EXPECT_EQ(engine->load().tokens_in, (*problems_)[0].prompt_ids.size());
  EXPECT_EQ(engine->load().tokens_out, answer.ids.size());
}

TEST_F(EngineTest, EndsByLengthAtMaxNewTokens) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  const auto engine = Start(*cluster);
  const Generated answer = TakeAll(*Submit(*engine, Request(0, /*max_new_tokens=*/3)));
  ASSERT_TRUE(answer.end.ok()) << answer.end.status();
  EXPECT_EQ(*answer.end, EndReason::kLength);
  const std::vector<int32_t>& reference = (*problems_)[0].reference_ids;
  EXPECT_EQ(answer.ids, std::vector<int32_t>(reference.begin(), reference.begin() + 3));
}

TEST_F(EngineTest, AnswersManyAtOnceAndEachAsIfItWereAlone) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto engine = Start(*cluster);
  std::vector<std::shared_ptr<Outbox>> outboxes;
  for (int i = 0; i < 4; ++i) outboxes.push_back(Submit(*engine, Request(i)));
  cluster->AnswerAll();
  std::vector<Generated> queued;
  for (int i = 0; i < 4; ++i) {
    queued.push_back(TakeAll(*outboxes[i]));
    EXPECT_EQ(queued[i].ids, (*problems_)[i].reference_ids) << i;
  }
  for (int i = 3; i >= 0; --i) {
    EXPECT_TRUE(TakeAll(*Submit(*engine, Request(i))).SameBits(queued[i])) << i;
  }
}

TEST_F(EngineTest, AChunkedPromptGivesTheSameBits) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  GenerationRequest request = Request(0, /*max_new_tokens=*/20);
  request.prompt_ids = RandomIds(cluster->config(), 150, /*seed=*/1);  // three cache blocks
  const Generated whole = TakeAll(*Submit(*Start(*cluster), request));
  ASSERT_TRUE(whole.end.ok()) << whole.end.status();
  for (const int max_step_rows : {1, 7, 64}) {
    EngineOptions options = DefaultOptions();
    options.scheduler.max_step_rows = max_step_rows;
    options.scheduler.max_running = 1;
    const auto engine = Start(*cluster, options);
    EXPECT_TRUE(TakeAll(*Submit(*engine, request)).SameBits(whole)) << max_step_rows;
  }
}

TEST_F(EngineTest, ASeedDrawsTheSameTokensInEveryTopology) {
  const auto small = EngineCluster::Make({.shards = {kAll}});
  GenerationRequest request = EndlessRequest();
  request.prompt_ids = RandomIds(small->config(), 30, /*seed=*/5);  // leaves the model in doubt
  request.stop.max_new_tokens = 40;
  request.sampling = {.temperature = 2.0f, .seed = 11};
  small->AnswerAll();
  const auto engine = Start(*small);
  const Generated first = TakeAll(*Submit(*engine, request));
  ASSERT_TRUE(first.end.ok()) << first.end.status();
  EXPECT_TRUE(TakeAll(*Submit(*engine, request)).SameBits(first));

  const auto large = EngineCluster::Make({.num_ranks = 2, .shards = {{0, 5}, {5, 10}, {10, 16}}});
  large->AnswerAll();
  const auto engine0 = Start(*large, DefaultOptions(), 0);
  const auto engine1 = Start(*large, DefaultOptions(), 1);
  const auto outbox0 = Submit(*engine0, request);
  const auto outbox1 = Submit(*engine1, request);
  EXPECT_TRUE(TakeAll(*outbox0).SameBits(first));
  EXPECT_TRUE(TakeAll(*outbox1).SameBits(first));

  request.sampling.seed = 12;
  EXPECT_NE(TakeAll(*Submit(*engine, request)).ids, first.ids);
}

TEST_F(EngineTest, AnAnswerMayFillTheContextToTheLastToken) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  EngineOptions options = DefaultOptions();
  options.max_context_tokens = KvCache::BlocksFor(1) * kKvBlockTokens;
  options.num_kv_blocks = 1;
  const auto engine = Start(*cluster, options);
  GenerationRequest request = Request(0, /*max_new_tokens=*/4);
  request.prompt_ids = RandomIds(cluster->config(), options.max_context_tokens - 4, /*seed=*/2);
  request.stop.stop_ids.clear();
  const Generated answer = TakeAll(*Submit(*engine, request));
  ASSERT_TRUE(answer.end.ok()) << answer.end.status();
  EXPECT_EQ(answer.ids.size(), 4u);
}

TEST_F(EngineTest, ACachedPrefixIsNotComputedAgainAndChangesNoBit) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  const auto engine = Start(*cluster);
  for (const int num_prompt : {63, 64, 65, 128, 150}) {
    GenerationRequest request = Request(0, /*max_new_tokens=*/20);
    request.prompt_ids = RandomIds(cluster->config(), num_prompt, /*seed=*/num_prompt);
    request.cache_salt = "a";
    const Generated cold = TakeAll(*Submit(*engine, request));
    ASSERT_TRUE(cold.end.ok()) << cold.end.status();
    EXPECT_EQ(cold.details.cached_tokens, 0);
    const Generated warm = TakeAll(*Submit(*engine, request));
    EXPECT_TRUE(warm.SameBits(cold)) << num_prompt;
    EXPECT_EQ(warm.details.cached_tokens, num_prompt / kKvBlockTokens * kKvBlockTokens);
    request.cache_salt = "b";
    const Generated salted = TakeAll(*Submit(*engine, request));
    EXPECT_TRUE(salted.SameBits(cold)) << num_prompt;
    EXPECT_EQ(salted.details.cached_tokens, 0);
  }
  ExpectNothingUsed(*engine);
  EXPECT_GT(engine->load().num_cached_kv_blocks, 0);
}

// Choice k is the same whatever their number, also where the prompt ends in the middle of a block or at
// its end, and where the others find no room at first.
TEST_F(EngineTest, ChoicesContinueFromOnePromptEachWithItsOwnDraws) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  for (const int num_prompt : {30, 64, 100}) {
    GenerationRequest request = Request(0, /*max_new_tokens=*/80);
    request.prompt_ids = RandomIds(cluster->config(), num_prompt, /*seed=*/num_prompt);
    request.stop.stop_ids.clear();
    request.sampling = {.temperature = 1.5f, .seed = 3};
    request.num_choices = 4;
    EngineOptions options = DefaultOptions();
    const auto engine = Start(*cluster, options);
    const std::vector<Generated> four = TakeChoices(*Submit(*engine, request), 4);
    ASSERT_TRUE(four[0].end.ok()) << four[0].end.status();
    EXPECT_NE(four[0].ids, four[1].ids);
    EXPECT_NE(four[1].ids, four[2].ids);
    ExpectNothingUsed(*engine);
    options.scheduler.max_running = 2;
    options.max_context_tokens = 192;
    options.num_kv_blocks = 5;
    const std::vector<Generated> cramped =
        TakeChoices(*Submit(*Start(*cluster, options), request), 4);
    for (int choice = 0; choice < 4; ++choice) {
      EXPECT_EQ(four[choice].ids.size(), 80u);
      EXPECT_TRUE(cramped[choice].SameBits(four[choice])) << num_prompt << " " << choice;
    }
    request.num_choices = 1;
    EXPECT_TRUE(TakeAll(*Submit(*engine, request)).SameBits(four[0]));
  }
}

// Drafts change what a step computes and never what it says.
TEST_F(EngineTest, SpeculativeDecodingGivesTheSameBits) {
  const auto cluster = EngineCluster::Make({.with_mtp = true, .shards = {kAll}});
  cluster->AnswerAll();
  for (const float temperature : {0.0f, 0.8f}) {
    GenerationRequest request = Request(0, /*max_new_tokens=*/100);
    request.stop.stop_ids.clear();
    request.sampling = {.temperature = temperature, .seed = 9, .frequency_penalty = 0.2f};
    request.num_choices = 3;
    EngineOptions options = DefaultOptions();
    const std::vector<Generated> plain =
        TakeChoices(*Submit(*Start(*cluster, options), request), 3);
    for (const int num_drafts : {1, 3}) {
      options.num_draft_tokens = num_drafts;
      const auto engine = Start(*cluster, options);
      for (const char* state : {"cold", "warm"}) {
        const std::vector<Generated> drafted = TakeChoices(*Submit(*engine, request), 3);
        for (int choice = 0; choice < 3; ++choice) {
          ASSERT_TRUE(drafted[choice].end.ok()) << drafted[choice].end.status();
          EXPECT_TRUE(drafted[choice].SameBits(plain[choice])) << state << " " << num_drafts;
          EXPECT_GT(drafted[choice].details.accepted_tokens, 0);
        }
      }
      ExpectNothingUsed(*engine);
      const EngineLoad load = engine->load();
      EXPECT_GT(load.accepted_draft_tokens, 0);
      EXPECT_LE(load.accepted_draft_tokens, load.drafted_tokens);
    }
  }
}

TEST_F(EngineTest, ReportsAsManyAlternativesAsAskedForMostLikelyFirst) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  const auto engine = Start(*cluster);
  GenerationRequest request = Request(0, /*max_new_tokens=*/2);
  request.num_top_logprobs = 3;
  const auto outbox = Submit(*engine, request);
  const auto output = TakeOne(*outbox);
  ASSERT_TRUE(output.has_value());
  ASSERT_EQ(output->top.size(), 3u);
  EXPECT_EQ(output->top[0], output->token);
  EXPECT_GE(output->top[1].logprob, output->top[2].logprob);
  TakeAll(*outbox);
}

}  // namespace
}  // namespace orrery
