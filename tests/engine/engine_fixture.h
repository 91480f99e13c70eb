// An engine over a cluster in the same process, and what its outboxes brought: for the tests of the loop.
//
//   class MyTest : public EngineFixture {};
//   const auto engine = Start(*cluster);
//   const Generated answer = TakeAll(*Submit(*engine, Request(0)));
#ifndef ORRERY_TESTS_ENGINE_ENGINE_FIXTURE_H_
#define ORRERY_TESTS_ENGINE_ENGINE_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "services/attention/engine.h"
#include "tests/engine/engine_cluster.h"
#include "tools/eval/problems.h"

namespace orrery {

inline constexpr ExpertRange kAll = {.begin = 0, .end = 16};  // abacus has 16 experts
inline constexpr int kManyTokens = 400;                       // more than any test waits for

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
std::vector<Generated> TakeChoices(Outbox& outbox, int num_choices);
Generated TakeAll(Outbox& outbox);
// The first token.
std::optional<OutputToken> TakeOne(Outbox& outbox);

// Of two longest requests.
EngineOptions DefaultOptions();

// Failures are the test's; then null.
std::unique_ptr<Engine> Start(const EngineCluster& cluster,
                              const EngineOptions& options = DefaultOptions(), int rank = 0);
std::shared_ptr<Outbox> Submit(Engine& engine, GenerationRequest request);

void ExpectNothingUsed(const Engine& engine);

class EngineFixture : public ::testing::Test {
 protected:
  // Problems whose greedy answer is known beyond doubt, by an independent implementation in f32.
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  static GenerationRequest Request(int problem, int max_new_tokens = 256);
  // Never ends by itself.
  static GenerationRequest EndlessRequest();

  static std::vector<Problem>* problems_;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_ENGINE_ENGINE_FIXTURE_H_
