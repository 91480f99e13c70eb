#include "tools/check/invariance/workload.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/kernels.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

Workload Make(const std::string& dir, const WorkloadOptions& options) {
  const auto config = ReadModelConfig(dir);
  EXPECT_TRUE(config.ok()) << config.status();
  auto workload = MakeWorkload(dir, *config, options);
  EXPECT_TRUE(workload.ok()) << workload.status();
  return workload.ok() ? *std::move(workload) : Workload{};
}

std::string ErrorOf(const std::string& dir, const WorkloadOptions& options) {
  const auto config = ReadModelConfig(dir);
  EXPECT_TRUE(config.ok()) << config.status();
  const auto workload = MakeWorkload(dir, *config, options);
  EXPECT_EQ(workload.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(workload.status().message());
}

TEST(Workload, StaysWithinVocabularyAndContextOfEveryModel) {
  for (const std::string& name : GoldenModels()) {
    const std::string dir = GoldenDir(name);
    const ModelConfig config = *ReadModelConfig(dir);
    const Workload workload = Make(dir, {.num_prompts = 100});
    ASSERT_EQ(workload.requests.size(), 100u) << name;
    EXPECT_LE(workload.max_context_tokens, config.max_positions) << name;
    for (const WorkloadRequest& request : workload.requests) {
      const std::vector<int32_t>& ids = request.greedy.prompt_ids;
      ASSERT_FALSE(ids.empty()) << name;
      EXPECT_LE(ids.size() + request.greedy.stop.max_new_tokens, workload.max_context_tokens);
      for (int32_t id : ids) ASSERT_TRUE(id >= 0 && id < config.vocab_size) << name;
      EXPECT_TRUE(CheckSamplingParams(request.seeded, config.vocab_size).ok());
      EXPECT_TRUE(CheckSamplingParams(request.greedy.sampling, config.vocab_size).ok());
      EXPECT_GT(request.seeded.temperature, 0.0f);
      EXPECT_EQ(request.greedy.sampling.temperature, 0.0f);
    }
  }
}

TEST(Workload, HasLengthsAroundBlocksAndChunksAndSharedBeginnings) {
  const Workload workload = Make(GoldenDir("qwen2_tied"), {.num_prompts = 60});
  std::set<size_t> lengths;
  std::map<std::vector<int32_t>, int> first_blocks;
  for (const WorkloadRequest& request : workload.requests) {
    const std::vector<int32_t>& ids = request.greedy.prompt_ids;
    lengths.insert(ids.size());
    if (ids.size() > kKvBlockTokens) {
      ++first_blocks[std::vector<int32_t>(ids.begin(), ids.begin() + kKvBlockTokens)];
    }
  }
  for (size_t length : {1, 16, 17, 63, 64, 65, 127}) EXPECT_EQ(lengths.count(length), 1u) << length;
  EXPECT_TRUE(std::any_of(first_blocks.begin(), first_blocks.end(),
                          [](const auto& block) { return block.second > 1; }));
  EXPECT_EQ(workload.num_from_eval, 0);
  EXPECT_FALSE(workload.tokenizer.has_value());
}

TEST(Workload, TakesHalfOfThePromptsFromTheModelsProblems) {
  const Workload workload = Make(kAbacusDir, {.num_prompts = 11});
  EXPECT_EQ(workload.num_from_eval, 6);
  EXPECT_TRUE(workload.tokenizer.has_value());
  EXPECT_TRUE(
      std::any_of(workload.requests.begin(), workload.requests.end(),
                  [](const WorkloadRequest& r) { return !r.greedy.stop.stop_strings.empty(); }));
}

TEST(Workload, IsTheSameForTheSameSeedOnly) {
  const Workload one = Make(kAbacusDir, {.num_prompts = 20});
  const Workload same = Make(kAbacusDir, {.num_prompts = 20});
  const Workload other = Make(kAbacusDir, {.num_prompts = 20, .seed = 2});
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(one.requests[i].greedy.prompt_ids, same.requests[i].greedy.prompt_ids);
    EXPECT_EQ(one.requests[i].seeded.seed, same.requests[i].seeded.seed);
    EXPECT_NE(one.requests[i].seeded.seed, other.requests[i].seeded.seed);
  }
}

TEST(Workload, TheIntruderNeedsAllOfASmallCacheAndOutranksEverybody) {
  for (const char* name : {"mtp", "fp8_w128"}) {
    const Workload workload = Make(GoldenDir(name), {.num_prompts = 5});
    const GenerationRequest& intruder = workload.intruder;
    EXPECT_EQ(intruder.prompt_ids.size() + intruder.stop.max_new_tokens,
              workload.max_context_tokens);
    for (const WorkloadRequest& request : workload.requests) {
      EXPECT_LT(request.greedy.priority, intruder.priority);
    }
  }
}

TEST(Workload, RefusesWhatCannotBeAskedWithValueAndLimit) {
  EXPECT_THAT(ErrorOf(GoldenDir("mtp"), {.num_prompts = 0}), HasSubstr("prompts is 0"));
  EXPECT_THAT(ErrorOf(GoldenDir("mtp"), {.max_new_tokens = 3}),
              HasSubstr("is 3, must be 4 to 127"));
  EXPECT_THAT(ErrorOf(GoldenDir("mtp"), {.max_new_tokens = 128}), HasSubstr("must be 4 to 127"));
}

}  // namespace
}  // namespace orrery
