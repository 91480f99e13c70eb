// Whom an engine serves, and when: the queue, priorities, cancelling, deadlines, overload, failing steps,
// a cache that is too small.
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_fixture.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class EngineTest : public EngineFixture {
 protected:
  // The same num_prefix tokens, and 8 of its own.
  static GenerationRequest PrefixRequest(const EngineCluster& cluster, int num_prefix, int index,
                                         int max_new_tokens = 1) {
    GenerationRequest request = EndlessRequest();
    request.stop.max_new_tokens = max_new_tokens;
    request.prompt_ids = RandomIds(cluster.config(), num_prefix, /*seed=*/1);
    const std::vector<int32_t> own = RandomIds(cluster.config(), 8, /*seed=*/100 + index);
    request.prompt_ids.insert(request.prompt_ids.end(), own.begin(), own.end());
    return request;
  }

  // When the others arrive, the first is in its first step. From then on the shard answers.
  static std::vector<std::shared_ptr<Outbox>> SubmitAll(
      EngineCluster& cluster, Engine& engine, const std::vector<GenerationRequest>& requests) {
    std::vector<std::shared_ptr<Outbox>> outboxes;
    for (const GenerationRequest& request : requests) {
      outboxes.push_back(Submit(engine, request));
      if (outboxes.size() > 1) continue;
      EXPECT_TRUE(cluster.loopback().shard(0).Receive(absl::Now() + kPatience).has_value());
    }
    // The received rows are gone with the connection; the rank asks again.
    cluster.loopback().DisconnectShard(0);
    cluster.loopback().ReconnectShard(0);
    cluster.AnswerAll();
    return outboxes;
  }
};

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

// The one that goes first computes the prompt, the other finds it in the cache.
TEST_F(EngineTest, OfTwoThatWaitTheOneOfHigherPriorityGoesFirst) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  EngineOptions options = DefaultOptions();
  options.scheduler.max_running = 1;
  const auto engine = Start(*cluster, options);
  GenerationRequest low = Request(0, /*max_new_tokens=*/2);
  low.prompt_ids = RandomIds(cluster->config(), 2 * kKvBlockTokens, /*seed=*/4);
  GenerationRequest high = low;
  high.priority = 5;
  const auto outboxes = SubmitAll(*cluster, *engine, {Request(0, /*max_new_tokens=*/2), low, high});
  EXPECT_EQ(TakeAll(*outboxes[2]).details.cached_tokens, 0);
  EXPECT_EQ(TakeAll(*outboxes[1]).details.cached_tokens, 2 * kKvBlockTokens);
  EXPECT_TRUE(TakeAll(*outboxes[0]).end.ok());
}

// The first computes the prefix in three steps. From then on it costs the others no rows, though they came
// when it was not there yet: 8 rows each, and so 8 of them in a step of 64.
TEST_F(EngineTest, RequestsWithOnePrefixThatArriveTogetherAreAdmittedTogether) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  EngineOptions options = DefaultOptions();
  options.scheduler.max_running = 32;
  options.scheduler.max_step_rows = 64;
  options.num_kv_blocks = 128;
  const auto engine = Start(*cluster, options);
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 32; ++i) requests.push_back(PrefixRequest(*cluster, 192, i));
  for (const auto& outbox : SubmitAll(*cluster, *engine, requests)) {
    EXPECT_TRUE(TakeAll(*outbox).end.ok());
  }
  EXPECT_LE(engine->load().steps, 3 + 32 * 8 / 64);
  EXPECT_EQ(engine->load().prefix_hit_tokens, 31 * 192);
}

// 5 blocks each, of which 4 are the same: without sharing two of them fit side by side.
TEST_F(EngineTest, RequestsThatShareAPrefixRunTogetherWhereTheCacheHoldsTwoWithoutSharing) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  EngineOptions options = DefaultOptions();
  options.max_context_tokens = 320;
  options.num_kv_blocks = 16;
  const auto engine = Start(*cluster, options);
  const int num_tokens = 20;
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 6; ++i) requests.push_back(PrefixRequest(*cluster, 256, i, num_tokens));
  for (const auto& outbox : SubmitAll(*cluster, *engine, requests)) {
    EXPECT_TRUE(TakeAll(*outbox).end.ok());
  }
  // The first one's prompt takes two steps, then the others join it.
  EXPECT_LE(engine->load().steps, 2 + num_tokens);
  EXPECT_EQ(engine->load().preemptions, 0);
}

// Each of the four has one block at first and needs a second one soon; the cache has five.
TEST_F(EngineTest, AChoiceThatWouldTakeTheBlocksThatOthersNeedWaits) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  cluster->AnswerAll();
  EngineOptions options = DefaultOptions();
  GenerationRequest request = EndlessRequest();
  request.prompt_ids = RandomIds(cluster->config(), kKvBlockTokens - 1, /*seed=*/8);
  request.stop.max_new_tokens = 50;
  request.sampling = {.temperature = 1.5f, .seed = 3};
  request.num_choices = 4;
  const std::vector<Generated> roomy = TakeChoices(*Submit(*Start(*cluster, options), request), 4);
  options.max_context_tokens = 192;
  options.num_kv_blocks = 5;
  const auto engine = Start(*cluster, options);
  const std::vector<Generated> cramped = TakeChoices(*Submit(*engine, request), 4);
  for (int choice = 0; choice < 4; ++choice) {
    ASSERT_TRUE(cramped[choice].end.ok()) << cramped[choice].end.status();
    EXPECT_TRUE(cramped[choice].SameBits(roomy[choice])) << choice;
  }
  EXPECT_EQ(engine->load().preemptions, 0);
  ExpectNothingUsed(*engine);
}

TEST_F(EngineTest, TheLoadTellsOfASequenceWhileItsFirstStepWaits) {
  const auto cluster = EngineCluster::Make({.shards = {kAll}});
  const auto engine = Start(*cluster);
  const auto outbox = Submit(*engine, Request(0));
  ASSERT_TRUE(cluster->loopback().shard(0).Receive(absl::Now() + kPatience).has_value());
  EXPECT_EQ(engine->load().num_running, 1);
  EXPECT_EQ(engine->load().num_waiting, 0);
  EXPECT_LT(engine->load().num_free_kv_blocks, engine->load().num_kv_blocks);
  outbox->Cancel();
  TakeAll(*outbox);
}

// The step is fine, and its token is out; the pass of the MTP module behind it finds no experts.
TEST_F(EngineTest, ADraftThatFindsNoExpertsEndsItsRequestBehindTheTokenAndTheNextOneWorks) {
  const auto cluster = EngineCluster::Make({.with_mtp = true, .shards = {kAll}});
  cluster->AnswerAll();
  EngineOptions options = DefaultOptions();
  options.num_draft_tokens = 1;
  options.expert_timeout = absl::Milliseconds(200);
  const int mtp_layer = cluster->config().num_layers;
  std::vector<LayerExperts> held = cluster->shard(0).held();
  ASSERT_GT(std::erase_if(held, [&](const LayerExperts& h) { return h.layer == mtp_layer; }), 0u);
  cluster->directory(0).SetClaim(0, {.held = held});
  {
    const auto engine = Start(*cluster, options);
    const Generated failed = TakeAll(*Submit(*engine, Request(0)));
    EXPECT_EQ(failed.end.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(failed.ids, std::vector<int32_t>{(*problems_)[0].reference_ids[0]});
    // Its answer is complete without a draft.
    const Generated ended = TakeAll(*Submit(*engine, Request(1, /*max_new_tokens=*/1)));
    EXPECT_TRUE(ended.end.ok()) << ended.end.status();
    ExpectNothingUsed(*engine);
  }
  cluster->directory(0).SetClaim(0, {.held = cluster->shard(0).held()});
  options.expert_timeout = kPatience;
  EXPECT_EQ(TakeAll(*Submit(*Start(*cluster, options), Request(0))).ids,
            (*problems_)[0].reference_ids);
}

}  // namespace
}  // namespace orrery
