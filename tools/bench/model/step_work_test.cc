#include "tools/bench/model/step_work.h"

#include <numeric>

#include "gtest/gtest.h"

namespace orrery {
namespace {

// Two layers, the first one dense.
ModelConfig Small() {
  ModelConfig config;
  config.vocab_size = 100;
  config.hidden_size = 10;
  config.num_layers = 2;
  config.num_heads = 2;
  config.q_lora_rank = 6;
  config.kv_lora_rank = 8;
  config.qk_nope_head_dim = 3;
  config.qk_rope_head_dim = 2;
  config.v_head_dim = 4;
  config.intermediate_size = 20;
  config.num_experts = 8;
  config.num_experts_per_token = 2;
  config.num_shared_experts = 1;
  config.moe_intermediate_size = 5;
  config.layer_is_moe = {false, true};
  return config;
}

Work Sum(const std::vector<Work>& works) {
  return std::accumulate(works.begin(), works.end(), Work{}, [](Work sum, const Work& work) {
    return Work{.bytes = sum.bytes + work.bytes, .flops = sum.flops + work.flops};
  });
}

constexpr double kAttentionWeights = 10 * 6 + 6 * 2 * 5 + 10 * 10 + 2 * 8 * 3 + 2 * 4 * 8 + 8 * 10;

TEST(StepWork, OfOneTokenReadsEveryWeightItMeetsOnce) {
  const Work work =
      Sum(WorkOfStep(Small(), WeightFormat::kStored,
                     {.num_rows = 1, .num_sequences = 1, .context = 7, .num_logit_rows = 1}));
  const double weights = 2 * kAttentionWeights + 3 * 10 * 20 + 3 * 10 * 5 * (1 + 2) + 100 * 10;
  EXPECT_DOUBLE_EQ(work.bytes, 2 * weights + 4 * 8 * 10 + 2 * 7 * (8 + 2) * 2);
  EXPECT_DOUBLE_EQ(work.flops, 2 * weights + 2 * 8 * 10 + 2 * (2 * 2 * 7 * (8 + 2 + 8)));
}

TEST(StepWork, MoreRowsMultiplyMoreAndReadNoWeightTwice) {
  const StepShape shape = {.num_rows = 1000, .num_sequences = 1, .context = 0, .num_logit_rows = 0};
  const Work work = Sum(WorkOfStep(Small(), WeightFormat::kStored, shape));
  EXPECT_NEAR(
      work.bytes,
      2 * (2 * kAttentionWeights + 3 * 10 * 20 + 3 * 10 * 5 * (1 + 8) + 100 * 10) + 4 * 8 * 10,
      1e-6);
  EXPECT_DOUBLE_EQ(work.flops,
                   2e3 * (2 * kAttentionWeights + 3 * 10 * 20 + 3 * 10 * 5 * (1 + 2) + 8 * 10));
}

TEST(StepWork, QuantisedFeedForwardsAreReadInFewerBytes) {
  const StepShape shape = {.num_rows = 1, .num_sequences = 1, .context = 0, .num_logit_rows = 0};
  const auto bytes = [&](WeightFormat format) {
    return Sum(WorkOfStep(Small(), format, shape)).bytes;
  };
  const double num_weights = 3 * 10 * 20 + 3 * 10 * 5 * 3;
  EXPECT_DOUBLE_EQ(bytes(WeightFormat::kStored) - bytes(WeightFormat::kInt8),
                   num_weights * (1 - 2.0 / 128));
  EXPECT_DOUBLE_EQ(bytes(WeightFormat::kStored) - bytes(WeightFormat::kInt4),
                   num_weights * (1.5 - 2.0 / 32));
}

TEST(StepWork, TheLeastTimeIsTheSumOverOperations) {
  const Work works[] = {{.bytes = 10, .flops = 1}, {.bytes = 1, .flops = 30}};
  EXPECT_DOUBLE_EQ(LeastSeconds(works, {.bytes_per_s = 2, .flops_per_s = 3}), 5 + 10);
}

TEST(ExpectedExperts, OneRowVisitsAsManyAsItChoosesAndManyRowsVisitAll) {
  EXPECT_DOUBLE_EQ(ExpectedExperts(64, 6, 1), 6);
  EXPECT_DOUBLE_EQ(ExpectedExperts(4, 2, 2), 3);
  EXPECT_NEAR(ExpectedExperts(64, 6, 1000), 64, 1e-9);
}

}  // namespace
}  // namespace orrery
