#include "tests/engine/engine_fixture.h"

#include <utility>
#include <variant>

#include "absl/time/clock.h"

namespace orrery {

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

std::unique_ptr<Engine> Start(const EngineCluster& cluster, const EngineOptions& options,
                              int rank) {
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

std::vector<Problem>* EngineFixture::problems_ = nullptr;

void EngineFixture::SetUpTestSuite() {
  auto problems = ReadProblems("models/abacus/eval.jsonl");
  ASSERT_TRUE(problems.ok()) << problems.status();
  problems_ = new std::vector<Problem>();
  for (Problem& problem : *problems) {
    if (problem.min_top2_gap > 0.1) problems_->push_back(std::move(problem));
    if (problems_->size() == 4) break;
  }
}

void EngineFixture::TearDownTestSuite() { delete problems_; }

GenerationRequest EngineFixture::Request(int problem, int max_new_tokens) {
  GenerationRequest request;
  request.prompt_ids = (*problems_)[problem].prompt_ids;
  request.stop.max_new_tokens = max_new_tokens;
  request.stop.stop_ids = {1};
  return request;
}

GenerationRequest EngineFixture::EndlessRequest() {
  GenerationRequest request = Request(0, kManyTokens);
  request.stop.stop_ids.clear();
  return request;
}

}  // namespace orrery
