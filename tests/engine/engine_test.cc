// The loop of an attention rank, with the bundled model and shards in the same process.
#include "services/attention/engine.h"

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_cluster.h"
#include "tools/eval/problems.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr ExpertRange kAll = {.begin = 0, .end = 16};  // abacus has 16 experts
constexpr int kManyTokens = 400;                       // more than any test waits for

struct Generated {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
  absl::StatusOr<EndReason> end = absl::UnknownError("it has not ended");
  ChoiceEnd details;

  bool SameBits(const Generated& other) const {
    return ids == other.ids && logprobs == other.logprobs;
  }
};

// Everything until the end, by choice.
std::vector<Generated> TakeChoices(Outbox& outbox, int num_choices) {
  std::vector<Generated> choices(num_choices);
  const absl::Time deadline = absl::Now() + kPatience;
  while (!outbox.status().has_value() && absl::Now() < deadline) {
    for (const OutputEvent& event : outbox.Next(deadline)) {
      if (const OutputToken* token = std::get_if<OutputToken>(&event)) {
        choices[token->choice].ids.push_back(token->token.id);
        choices[token->choice].logprobs.push_back(token->token.logprob);
      } else {
        const ChoiceEnd& end = std::get<ChoiceEnd>(event);
        choices[end.choice].end = end.end.reason;
        choices[end.choice].details = end;
      }
    }
  }
  const std::optional<absl::Status> status = outbox.status();
  EXPECT_TRUE(status.has_value()) << "not ended in time";
  if (status.has_value() && !status->ok()) {
    for (Generated& choice : choices) choice.end = *status;
  }
  return choices;
}

Generated TakeAll(Outbox& outbox) { return TakeChoices(outbox, 1)[0]; }

// The first token.
std::optional<OutputToken> TakeOne(Outbox& outbox) {
  for (const OutputEvent& event : outbox.Next(absl::Now() + kPatience)) {
    if (const OutputToken* token = std::get_if<OutputToken>(&event)) return *token;
  }
  return std::nullopt;
}

EngineOptions DefaultOptions() {
  EngineOptions options;
  options.max_context_tokens = 512;
  options.num_kv_blocks = 2 * KvCache::BlocksFor(options.max_context_tokens);
  options.expert_timeout = kPatience;
  return options;
}

std::unique_ptr<Engine> Start(const EngineCluster& cluster,
                              const EngineOptions& options = DefaultOptions(), int rank = 0) {
  auto engine = Engine::Start(cluster.parts(rank), options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

std::shared_ptr<Outbox> Submit(Engine& engine, GenerationRequest request) {
  auto outbox = engine.Submit(std::move(request));
  EXPECT_TRUE(outbox.ok()) << outbox.status();
  return outbox.ok() ? *std::move(outbox) : nullptr;
}

void ExpectNothingUsed(const Engine& engine) {
  const EngineLoad load = engine.load();
  EXPECT_EQ(load.num_running, 0);
  EXPECT_EQ(load.num_waiting, 0);
  EXPECT_EQ(load.num_free_kv_blocks, load.num_kv_blocks);
  EXPECT_EQ(load.num_leaked_kv_blocks, 0);
}

class EngineTest : public ::testing::Test {
 protected:
  // Problems whose greedy answer is known beyond doubt, by an independent implementation in f32.
  static void SetUpTestSuite() {
    auto problems = ReadProblems("models/abacus/eval.jsonl");
    ASSERT_TRUE(problems.ok()) << problems.status();
    problems_ = new std::vector<Problem>();
    for (Problem& problem : *problems) {
      if (problem.min_top2_gap > 0.1) problems_->push_back(std::move(problem));
      if (problems_->size() == 4) break;
    }
  }
  static void TearDownTestSuite() { delete problems_; }

  static GenerationRequest Request(int problem, int max_new_tokens = 256) {
    GenerationRequest request;
    request.prompt_ids = (*problems_)[problem].prompt_ids;
    request.stop.max_new_tokens = max_new_tokens;
    request.stop.stop_ids = {1};
    return request;
  }
  // Never ends by itself.
  static GenerationRequest EndlessRequest() {
    GenerationRequest request = Request(0, kManyTokens);
    request.stop.stop_ids.clear();
    return request;
  }

  static std::vector<Problem>* problems_;
};
std::vector<Problem>* EngineTest::problems_ = nullptr;

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

TEST_F(EngineTest, ARequestCancelledWhileItWaitsIsDroppedAndTheOthersGoOn) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto engine = Start(*cluster);
  const auto running = Submit(*engine, Request(0));
  const auto cancelled = Submit(*engine, Request(1));
  const auto last = Submit(*engine, Request(2));
  cancelled->Cancel();
  cluster->AnswerAll();
  EXPECT_EQ(TakeAll(*running).ids, (*problems_)[0].reference_ids);
  const Generated dropped = TakeAll(*cancelled);
  EXPECT_EQ(dropped.end.status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(dropped.ids.empty());
  EXPECT_EQ(TakeAll(*last).ids, (*problems_)[2].reference_ids);
  ExpectNothingUsed(*engine);
}

TEST_F(EngineTest, ARequestCancelledWhileItRunsFreesItsBlocks) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  const auto engine = Start(*cluster);
  const auto outbox = Submit(*engine, EndlessRequest());
  ASSERT_TRUE(TakeOne(*outbox).has_value());
  ASSERT_TRUE(TakeOne(*outbox).has_value());  // so that the turn of the first is over
  EXPECT_LT(engine->load().num_free_kv_blocks, engine->load().num_kv_blocks);
  outbox->Cancel();
  const Generated rest = TakeAll(*outbox);
  EXPECT_EQ(rest.end.status().code(), absl::StatusCode::kCancelled);
  ExpectNothingUsed(*engine);
  EXPECT_EQ(TakeAll(*Submit(*engine, Request(0))).ids, (*problems_)[0].reference_ids);
}

// The step waits for a shard that is not there; kPatience would be a long time.
TEST_F(EngineTest, ARequestCancelledWhileItsStepWaitsForAHolderMakesRoomForTheNext) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto engine = Start(*cluster);
  const auto outbox = Submit(*engine, EndlessRequest());
  ASSERT_TRUE(cluster->loopback().shard(0).Receive(absl::Now() + kPatience).has_value());
  cluster->loopback().DisconnectShard(0);
  outbox->Cancel();
  EXPECT_EQ(TakeAll(*outbox).end.status().code(), absl::StatusCode::kCancelled);
  ExpectNothingUsed(*engine);
  cluster->loopback().ReconnectShard(0);
  cluster->AnswerAll();
  EXPECT_EQ(TakeAll(*Submit(*engine, Request(0))).ids, (*problems_)[0].reference_ids);
}

TEST_F(EngineTest, ADeadlineEndsARequestBeforeItsFirstStep) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  const auto engine = Start(*cluster);
  GenerationRequest request = Request(0);
  request.deadline = absl::Now() - absl::Seconds(1);
  const Generated late = TakeAll(*Submit(*engine, request));
  EXPECT_EQ(late.end.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(late.ids.empty());
  ExpectNothingUsed(*engine);
}

TEST_F(EngineTest, ADeadlineEndsARequestWhoseShardIsSilent) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto engine = Start(*cluster);
  GenerationRequest request = Request(0);
  request.deadline = absl::Now() + absl::Milliseconds(200);
  EXPECT_EQ(TakeAll(*Submit(*engine, request)).end.status().code(),
            absl::StatusCode::kDeadlineExceeded);
  ExpectNothingUsed(*engine);
}

TEST_F(EngineTest, AStepWithoutHolderEndsItsRequestAndTheNextOneWorks) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  EngineOptions options = DefaultOptions();
  options.expert_timeout = absl::Milliseconds(200);
  const auto engine = Start(*cluster, options);
  cluster->loopback().DisconnectShard(0);
  const Generated failed = TakeAll(*Submit(*engine, Request(0)));
  EXPECT_EQ(failed.end.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed.end.status().message()), HasSubstr("layer 1: expert"));
  ExpectNothingUsed(*engine);
  cluster->loopback().ReconnectShard(0);
  const auto patient = Start(*cluster);
  EXPECT_EQ(TakeAll(*Submit(*patient, Request(0))).ids, (*problems_)[0].reference_ids);
}

TEST_F(EngineTest, AFullQueueIsRefusedWithTheNumbers) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  EngineOptions options = DefaultOptions();
  options.scheduler.max_running = 1;
  options.max_waiting_requests = 2;
  const auto engine = Start(*cluster, options);
  std::vector<std::shared_ptr<Outbox>> outboxes;
  for (int i = 0; i < 3; ++i) outboxes.push_back(Submit(*engine, Request(i)));
  const auto refused = engine->Submit(Request(3));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()),
              AllOf(HasSubstr("holds 3 requests, 3 of this tenant"), HasSubstr("6 places")));
  cluster->AnswerAll();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(TakeAll(*outboxes[i]).ids, (*problems_)[i].reference_ids);
  }
  EXPECT_TRUE(engine->Submit(Request(3)).ok());
}

// A flood of one tenant leaves half of the places to the others.
TEST_F(EngineTest, AnotherTenantFindsAPlaceWhenOneHasFilledItsOwn) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  EngineOptions options = DefaultOptions();
  options.scheduler.max_running = 1;
  options.max_waiting_requests = 2;
  const auto engine = Start(*cluster, options);
  GenerationRequest request = Request(0);
  request.tenant = "flood";
  std::vector<std::shared_ptr<Outbox>> outboxes;
  for (int i = 0; i < 3; ++i) outboxes.push_back(Submit(*engine, request));
  EXPECT_EQ(engine->Submit(request).status().code(), absl::StatusCode::kResourceExhausted);
  request.tenant = "other";
  outboxes.push_back(Submit(*engine, request));
  cluster->AnswerAll();
  for (const auto& outbox : outboxes) {
    EXPECT_EQ(TakeAll(*outbox).ids, (*problems_)[0].reference_ids);
  }
}

TEST_F(EngineTest, RefusesWhatItCannotServeWithTheNumbers) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto engine = Start(*cluster);
  const auto refusal = [&](std::vector<int32_t> prompt_ids, int max_new_tokens) {
    GenerationRequest request;
    request.prompt_ids = std::move(prompt_ids);
    request.stop.max_new_tokens = max_new_tokens;
    const auto outbox = engine->Submit(std::move(request));
    EXPECT_EQ(outbox.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(outbox.status().message());
  };
  EXPECT_THAT(refusal({}, 1), HasSubstr("no tokens"));
  EXPECT_THAT(refusal({5, 768}, 1),
              AllOf(HasSubstr("id 768 at index 1"), HasSubstr("vocabulary 0..767")));
  EXPECT_THAT(refusal({-1}, 1), HasSubstr("id -1 at index 0"));
  EXPECT_THAT(refusal({5}, 0), HasSubstr("max_new_tokens is 0"));
  EXPECT_THAT(refusal(std::vector<int32_t>(500, 5), 13),
              AllOf(HasSubstr("500 tokens"), HasSubstr("13"), HasSubstr("512 tokens")));
  EXPECT_THAT(refusal({5}, 2147483647), HasSubstr("2147483647"));
  ExpectNothingUsed(*engine);
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

TEST_F(EngineTest, ACacheThatCannotHoldTheContextIsRefusedAtStart) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  EngineOptions options = DefaultOptions();
  options.num_kv_blocks = 7;
  const auto engine = Engine::Start(cluster->parts(0), options);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(engine.status().message()),
              AllOf(HasSubstr("7 blocks"), HasSubstr("448 tokens"), HasSubstr("512")));
}

// One waits in the queue, the other in a step, for a shard that is gone.
TEST_F(EngineTest, StopEndsEverySequenceAsUnavailable) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto engine = Start(*cluster);
  const auto running = Submit(*engine, Request(0));
  const auto waiting = Submit(*engine, Request(1));
  ASSERT_TRUE(cluster->loopback().shard(0).Receive(absl::Now() + kPatience).has_value());
  cluster->loopback().DisconnectShard(0);
  engine->Stop();
  for (const auto& outbox : {running, waiting}) {
    const absl::Status end = TakeAll(*outbox).end.status();
    EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(end.message()), HasSubstr("stopping"));
  }
  ExpectNothingUsed(*engine);
  EXPECT_EQ(engine->Submit(Request(0)).status().code(), absl::StatusCode::kUnavailable);
  engine->Stop();
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

// 64 requests of up to 256 tokens, on a cache that holds 8 of them.
TEST_F(EngineTest, SequencesThatAreSetBackGiveTheSameBits) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  EngineOptions options = DefaultOptions();
  options.max_context_tokens = 256;
  std::vector<GenerationRequest> requests(64, Request(0, /*max_new_tokens=*/100));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt_ids = RandomIds(cluster->config(), 93 + static_cast<int>(i), /*seed=*/i);
    requests[i].stop.stop_ids.clear();
  }
  const auto run = [&](int num_kv_blocks, bool use_prefix_cache, int64_t* preemptions) {
    options.num_kv_blocks = num_kv_blocks;
    options.use_prefix_cache = use_prefix_cache;
    const auto engine = Start(*cluster, options);
    std::vector<std::shared_ptr<Outbox>> outboxes;
    for (const GenerationRequest& request : requests) outboxes.push_back(Submit(*engine, request));
    std::vector<Generated> answers;
    for (const auto& outbox : outboxes) answers.push_back(TakeAll(*outbox));
    ExpectNothingUsed(*engine);
    *preemptions = engine->load().preemptions;
    return answers;
  };
  int64_t preemptions = 0;
  const std::vector<Generated> enough = run(64 * KvCache::BlocksFor(256), true, &preemptions);
  EXPECT_EQ(preemptions, 0);
  for (const bool use_prefix_cache : {true, false}) {
    const std::vector<Generated> scarce =
        run(8 * KvCache::BlocksFor(256), use_prefix_cache, &preemptions);
    EXPECT_GT(preemptions, 0);
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_TRUE(scarce[i].end.ok()) << scarce[i].end.status();
      EXPECT_TRUE(scarce[i].SameBits(enough[i])) << i;
    }
  }
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
