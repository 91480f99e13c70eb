// What a request may ask for, through a cluster of real processes: stops, choices, tenants, limits.
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Answer Ask(OrreryClient& client, const v1::GenerateRequest& request) {
  auto answer = client.Generate(request, kPatience);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *std::move(answer) : Answer{};
}

v1::GenerateRequest Question() {
  v1::GenerateRequest request;
  *request.mutable_messages() = ReadProblems(1)[0].messages;
  request.set_logprobs(true);
  return request;
}

// A prompt of so many ids of real prompts: longer than one, and the same every time.
v1::GenerateRequest LongPrompt(int num_tokens) {
  v1::GenerateRequest request;
  auto& ids = *request.mutable_ids()->mutable_id();
  while (ids.size() < num_tokens) {
    for (const Problem& problem : ReadProblems(4)) {
      ids.Add(problem.prompt_ids.begin(), problem.prompt_ids.end());
    }
  }
  ids.Truncate(num_tokens);
  request.set_max_new_tokens(8);
  request.set_logprobs(true);
  return request;
}

void ExpectSame(const Choice& a, const Choice& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.content, b.content);
  EXPECT_EQ(a.reasoning, b.reasoning);
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
  EXPECT_EQ(std::memcmp(a.logprobs.data(), b.logprobs.data(), a.logprobs.size() * sizeof(float)),
            0);
}

TEST(ClusterServing, AStopStringCutsTheAnswerWhereverItsTokensBegin) {
  const auto cluster = StartReady(AbacusTopology(1, 2));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  const Answer full = Ask(client, Question());
  ASSERT_GE(full.reasoning.size(), 8);
  for (size_t begin = 1; begin < 6; ++begin) {
    const std::string stop = full.reasoning.substr(begin, 3);
    v1::GenerateRequest request = Question();
    request.add_stop("never written, I hope");
    request.add_stop(stop);
    const Answer cut = Ask(client, request);
    EXPECT_EQ(cut.reasoning, full.reasoning.substr(0, full.reasoning.find(stop)));
    EXPECT_EQ(cut.content, "");
    EXPECT_EQ(cut.finished.stop(), stop);
    EXPECT_EQ(cut.finished.reason(), v1::FINISH_REASON_STOP);
    EXPECT_EQ(cut.finished.usage().output_tokens(), cut.ids.size());
    ASSERT_LE(cut.ids.size(), full.ids.size());
    EXPECT_EQ(cut.ids, std::vector<int32_t>(full.ids.begin(), full.ids.begin() + cut.ids.size()));
  }
}

TEST(ClusterServing, AStopStringDoesNotMatchTheMarkerBetweenThinkingAndAnswer) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  const Answer full = Ask(client, Question());
  ASSERT_FALSE(full.reasoning.empty());
  ASSERT_FALSE(full.content.empty());
  for (const char* stop : {">", "think>", "</think>"}) {
    ASSERT_EQ((full.reasoning + full.content).find(stop), std::string::npos);
    v1::GenerateRequest request = Question();
    request.add_stop(stop);
    const Answer same = Ask(client, request);
    ExpectSame(same, full);
    EXPECT_EQ(same.finished.stop(), "");
  }
}

TEST(ClusterServing, StopIdsMinimumAndIgnoredEndIdsDecideWhereAnAnswerEnds) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  const Answer full = Ask(client, Question());
  v1::GenerateRequest request = Question();
  request.add_stop_ids(full.ids[3]);
  const Answer stopped = Ask(client, request);
  EXPECT_EQ(stopped.ids.back(), full.ids[3]);
  EXPECT_LE(stopped.ids.size(), 4);
  EXPECT_EQ(stopped.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(stopped.finished.stop(), "");
  request.set_min_new_tokens(6);
  EXPECT_GE(Ask(client, request).ids.size(), 6);
  request = Question();
  request.set_ignore_eos(true);
  request.set_max_new_tokens(static_cast<int>(full.ids.size()) + 5);
  const Answer longer = Ask(client, request);
  EXPECT_EQ(longer.ids.size(), full.ids.size() + 5);
  EXPECT_EQ(longer.finished.reason(), v1::FINISH_REASON_LENGTH);
}

TEST(ClusterServing, ChoicesAreRepeatableAndTheFirstIsThatOfASingleRequest) {
  const auto cluster = StartReady(AbacusTopology(1, 2));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  v1::GenerateRequest request;
  request.set_text("so");  // no problem of the model's kind: it knows many ways to go on
  request.set_logprobs(true);
  request.set_temperature(2.0f);
  request.set_seed(77);
  request.set_max_new_tokens(30);
  request.set_ignore_eos(true);
  const Answer single = Ask(client, request);
  request.set_num_choices(3);
  const Answer first = Ask(client, request);
  const Answer second = Ask(client, request);
  ASSERT_EQ(first.num_choices(), 3);
  ExpectSame(first.choice(0), single);
  for (int k = 0; k < 3; ++k) {
    ExpectSame(first.choice(k), second.choice(k));
    EXPECT_EQ(first.choice(k).finished.choice(), k);
    EXPECT_EQ(first.choice(k).finished.usage().output_tokens(), 30);
  }
  EXPECT_NE(first.choice(0).ids, first.choice(1).ids);
  EXPECT_NE(first.choice(1).ids, first.choice(2).ids);
}

TEST(ClusterServing, DraftsChangeNothingButTheirCounters) {
  v1::GenerateRequest request = Question();
  v1::GenerateRequest sampled = request;
  sampled.set_temperature(0.6f);
  sampled.set_seed(5);
  sampled.set_num_choices(2);
  std::vector<Answer> answers;
  for (const int num_draft_tokens : {0, 2}) {
    Topology topology = AbacusTopology(1, 2);
    topology.limits.set_num_draft_tokens(num_draft_tokens);
    const auto cluster = StartReady(topology);
    ASSERT_NE(cluster, nullptr);
    OrreryClient client = Connect(*cluster);
    for (const v1::GenerateRequest& asked : {request, sampled}) {
      answers.push_back(Ask(client, asked));
      const v1::Usage& usage = answers.back().finished.usage();
      EXPECT_EQ(usage.drafted_tokens() > 0, num_draft_tokens > 0);
      EXPECT_LE(usage.accepted_draft_tokens(), usage.drafted_tokens());
    }
  }
  ExpectSame(answers[0], answers[2]);
  ExpectSame(answers[1].choice(0), answers[3].choice(0));
  ExpectSame(answers[1].choice(1), answers[3].choice(1));
}

TEST(ClusterServing, ATenantFindsItsOwnPrefixInTheCacheAndNobodyElses) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  v1::GenerateRequest request = LongPrompt(200);
  request.set_tenant("blue");
  const Answer cold = Ask(client, request);
  EXPECT_EQ(cold.finished.usage().cached_prompt_tokens(), 0);
  const Answer warm = Ask(client, request);
  EXPECT_GE(warm.finished.usage().cached_prompt_tokens(), 128);
  EXPECT_LT(warm.finished.usage().cached_prompt_tokens(), 200);
  ExpectSame(warm, cold);
  for (const char* other : {"red", ""}) {
    request.set_tenant(other);
    const Answer strange = Ask(client, request);
    EXPECT_EQ(strange.finished.usage().cached_prompt_tokens(), 0);
    ExpectSame(strange, cold);
  }
}

TEST(ClusterServing, TenantsShareTheirPrefixesWhereTheClusterFileSaysSo) {
  Topology topology = AbacusTopology(1, 1);
  topology.limits.set_share_prefix_cache(true);
  const auto cluster = StartReady(topology);
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  v1::GenerateRequest request = LongPrompt(200);
  request.set_tenant("blue");
  Ask(client, request);
  request.set_tenant("red");
  EXPECT_GE(Ask(client, request).finished.usage().cached_prompt_tokens(), 128);
}

TEST(ClusterServing, ACacheThatHoldsTwoOfEightRequestsChangesNoAnswer) {
  std::vector<Answer> answers[2];
  for (const int64_t kv_cache_bytes : {0, 10 * 51200}) {
    Topology topology = AbacusTopology(1, 1);
    topology.limits.set_kv_cache_bytes(kv_cache_bytes);  // 64 tokens are 5 * 80 * 2 * 64 bytes
    const auto cluster = StartReady(topology);
    ASSERT_NE(cluster, nullptr);
    OrreryClient client = Connect(*cluster);
    std::vector<Answer>& mine = answers[kv_cache_bytes > 0];
    mine.resize(8);
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        v1::GenerateRequest request = LongPrompt(150 + i);
        request.set_max_new_tokens(150);
        request.set_ignore_eos(true);
        mine[i] = Ask(client, request);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(answers[0][i].ids.size(), 150);
    ExpectSame(answers[0][i], answers[1][i]);
  }
}

TEST(ClusterServing, RefusesEveryBadParameterWithFieldValueAndLimitAndGoesOn) {
  const auto cluster = StartReady(AbacusTopology(1, 1));
  ASSERT_NE(cluster, nullptr);
  OrreryClient client = Connect(*cluster);
  using Request = v1::GenerateRequest;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::pair<std::function<void(Request&)>, std::string> bad_requests[] = {
      {[](Request& r) { r.set_temperature(2.5f); }, "temperature is 2.5, must be 0 to 2"},
      {[&](Request& r) { r.set_temperature(nan); }, "temperature is nan, must be 0 to 2"},
      {[](Request& r) { r.set_top_k(-1); }, "top_k is -1, must be at least 0"},
      {[](Request& r) { r.set_top_p(1.5f); }, "top_p is 1.5, must be 0 to 1"},
      {[](Request& r) { r.set_min_p(-1); }, "min_p is -1, must be 0 to 1"},
      {[](Request& r) { r.set_repetition_penalty(11); },
       "repetition_penalty is 11, must be 0 to 10"},
      {[](Request& r) { r.set_presence_penalty(3); }, "presence_penalty is 3, must be -2 to 2"},
      {[](Request& r) { r.set_frequency_penalty(-3); }, "frequency_penalty is -3, must be -2 to 2"},
      {[](Request& r) { (*r.mutable_logit_bias())[768] = 1; },
       "an id of logit_bias is 768, must be 0 to 767"},
      {[](Request& r) { (*r.mutable_logit_bias())[7] = 101; },
       "logit_bias[7] is 101, must be -100 to 100"},
      {[](Request& r) { r.set_max_new_tokens(-1); }, "max_new_tokens is -1, must be at least 0"},
      {[](Request& r) { r.set_max_new_tokens(5000); }, "max_new_tokens is 5000"},
      {[](Request& r) { r.set_min_new_tokens(9), r.set_max_new_tokens(8); },
       "min_new_tokens is 9, more than max_new_tokens, 8"},
      {[](Request& r) { r.set_min_new_tokens(5000); }, "min_new_tokens is 5000"},
      {[](Request& r) { r.add_stop(""); }, "stop[0] has 0 bytes, must have 1 to 256"},
      {[](Request& r) { r.add_stop("x"), r.add_stop("x"); }, "stop[1] is the same as stop[0]"},
      {[](Request& r) { r.add_stop_ids(768); }, "stop_ids[0] is 768, must be 0 to 767"},
      {[](Request& r) { r.set_num_choices(17); }, "num_choices is 17, must be 0 to 16"},
      {[](Request& r) { r.set_num_top_logprobs(21); }, "num_top_logprobs is 21, must be 0 to 20"},
      {[](Request& r) { r.set_num_top_logprobs(2), r.set_logprobs(false); }, "not asked for"},
      {[](Request& r) { r.set_tenant(std::string(65, 't')); },
       "tenant has 65 bytes, at most 64 are allowed"},
      {[](Request& r) { r.set_priority(101); }, "priority is 101, must be -100 to 100"},
  };
  for (const auto& [spoil, expected] : bad_requests) {
    v1::GenerateRequest request = Question();
    spoil(request);
    const auto answer = client.Generate(request, kPatience);
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument) << expected;
    EXPECT_THAT(std::string(answer.status().message()), HasSubstr(expected));
  }
  EXPECT_FALSE(Ask(client, Question()).content.empty());
}

TEST(ClusterServing, SaysWhichLimitsOfTheClusterFileDoNotFitTheModel) {
  Topology topology = AbacusTopology(1, 1);
  topology.limits.set_kv_cache_bytes(51200 * 2);
  topology.limits.set_max_context_tokens(129);
  const auto launcher = Launcher::StartLocal(topology, TestLaunchOptions());
  ASSERT_TRUE(launcher.ok()) << launcher.status();
  const absl::Status ready = (*launcher)->WaitUntilReady(kPatience);
  EXPECT_EQ(ready.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(ready.message()), AllOf(HasSubstr("102400"), HasSubstr("129")));
}

}  // namespace
}  // namespace orrery
