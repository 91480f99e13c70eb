// The bundled model on kernels/cuda: a rank and its shards, whose code was written for memory that the
// host cannot read, and here dies if it does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "device/cuda/cuda_device.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "services/attention/kv_cache.h"
#include "services/attention/step.h"
#include "tests/engine/engine_cluster.h"

namespace orrery {
namespace {

constexpr Numerics kF32 = {.precision = Precision::kF32, .row_format = RowFormat::kF32};
constexpr Numerics kBf16 = {.precision = Precision::kBf16, .row_format = RowFormat::kBf16};

EngineBackend CudaBackend() {
  return {.make_device = [] { return MakeCudaDevice(0); }, .make_kernels = MakeCudaKernels};
}

std::unique_ptr<EngineCluster> MakeCluster(const EngineBackend& backend, const Numerics& numerics) {
  auto cluster =
      EngineCluster::Make({.backend = backend, .numerics = numerics, .shards = {{0, 5}, {5, 16}}});
  if (cluster != nullptr) cluster->AnswerAll();
  return cluster;
}

// Log-probabilities after a few tokens.
std::vector<float> PromptOf(const EngineBackend& backend, const Numerics& numerics) {
  const auto cluster = MakeCluster(backend, numerics);
  if (cluster == nullptr) return {};
  const std::vector<int32_t> ids = RandomIds(cluster->config(), /*num_ids=*/3, /*seed=*/1);
  const absl::StatusOr<std::vector<float>> logprobs = RunPrompt(cluster->parts(0), ids, kPatience);
  EXPECT_TRUE(logprobs.ok()) << logprobs.status();
  return logprobs.value_or(std::vector<float>());
}

double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max<double>(largest, std::fabs(a[i] - b[i]));
  return largest;
}

TEST(EngineOnCuda, StepsLikeTheCpuInF32) {
  const std::vector<float> ours = PromptOf(CudaBackend(), kF32);
  const std::vector<float> theirs = PromptOf(CpuBackend(), kF32);
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_FALSE(ours.empty());
  // Other orders of the same sums.
  EXPECT_LT(LargestDifference(ours, theirs), 1e-3);
}

TEST(EngineOnCuda, StepsLikeTheCpuInBf16) {
  const std::vector<float> ours = PromptOf(CudaBackend(), kBf16);
  const std::vector<float> theirs = PromptOf(CpuBackend(), kBf16);
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_FALSE(ours.empty());
  EXPECT_EQ(std::max_element(ours.begin(), ours.end()) - ours.begin(),
            std::max_element(theirs.begin(), theirs.end()) - theirs.begin());
  // A sum that lies between two bf16 values may go to either.
  EXPECT_LT(LargestDifference(ours, theirs), 0.2);
}

// Two sequences side by side, three steps with a row of each: the first step of a shape is done as it is,
// the second captured, the third replayed.
std::vector<std::vector<float>> TwoSequences(const StepParts& parts, bool replay, int* num_graphs) {
  const auto step = Step::Create(parts, {.max_rows = 8, .max_logit_rows = 2, .replay = replay});
  const auto cache = KvCache::Create(*parts.model, /*num_blocks=*/2, parts.device);
  EXPECT_TRUE(step.ok() && cache.ok()) << step.status() << cache.status();
  if (!step.ok() || !cache.ok()) return {};
  const std::vector<int32_t> ids = RandomIds(parts.model->config, 8, /*seed=*/2);
  const std::vector<int32_t> blocks[] = {{1}, {0}};
  std::vector<std::vector<float>> logprobs;
  // The second sequence begins a step late, so that positions differ; its row is of another shape then.
  for (int i = 0; i < 4; ++i) {
    Batch batch;
    batch.expert_timeout = kPatience;
    for (int s = 0; s < (i == 0 ? 1 : 2); ++s) {
      batch.spans.push_back({.row_begin = s,
                             .num_rows = 1,
                             .first_position = s == 0 ? i : i - 1,
                             .block_ids = blocks[s]});
      batch.ids.push_back(ids[2 * i + s]);
      batch.logit_rows.push_back(s);
    }
    const absl::Status status = (*step)->Run(batch, *cache, /*probe=*/nullptr);
    EXPECT_TRUE(status.ok()) << status;
    for (size_t s = 0; s < batch.spans.size(); ++s) {
      const absl::Span<const float> row = (*step)->logprobs(static_cast<int>(s));
      logprobs.emplace_back(row.begin(), row.end());
    }
  }
  *num_graphs = (*step)->num_graphs();
  return logprobs;
}

TEST(EngineOnCuda, GivesTheSameBitsFromGraphs) {
  const auto cluster = MakeCluster(CudaBackend(), kBf16);
  ASSERT_NE(cluster, nullptr);
  int num_graphs = 0, num_without = 0;
  const auto with = TwoSequences(cluster->parts(0), /*replay=*/true, &num_graphs);
  const auto without = TwoSequences(cluster->parts(0), /*replay=*/false, &num_without);
  EXPECT_EQ(with, without);
  EXPECT_EQ(num_without, 0);
  // Of every layer its attention, the way out of its rows or its dense feed-forward, and of MoE layers
  // the shared expert and the sum.
  int want = 0;
  for (int layer = 0; layer < cluster->config().num_layers; ++layer) {
    want += cluster->config().is_moe_layer(layer) ? 4 : 2;
  }
  EXPECT_EQ(num_graphs, want);
}

}  // namespace
}  // namespace orrery
