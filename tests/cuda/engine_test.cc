// The bundled model on kernels/cuda: a rank and its shards, whose code was written for memory that the
// host cannot read, and here dies if it does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "device/cuda/cuda_device.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "tests/engine/engine_cluster.h"

namespace orrery {
namespace {

EngineBackend CudaBackend() {
  return {.make_device = [] { return MakeCudaDevice(0); }, .make_kernels = MakeCudaKernels};
}

// Log-probabilities after a few tokens.
std::vector<float> Step(const EngineBackend& backend, const Numerics& numerics) {
  const auto cluster =
      EngineCluster::Make({.backend = backend, .numerics = numerics, .shards = {{0, 5}, {5, 16}}});
  if (cluster == nullptr) return {};
  cluster->AnswerAll();
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
  const Numerics numerics = {.precision = Precision::kF32, .row_format = RowFormat::kF32};
  const std::vector<float> ours = Step(CudaBackend(), numerics);
  const std::vector<float> theirs = Step(CpuBackend(), numerics);
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_FALSE(ours.empty());
  // Other orders of the same sums.
  EXPECT_LT(LargestDifference(ours, theirs), 1e-3);
}

TEST(EngineOnCuda, StepsLikeTheCpuInBf16) {
  const Numerics numerics = {.precision = Precision::kBf16, .row_format = RowFormat::kBf16};
  const std::vector<float> ours = Step(CudaBackend(), numerics);
  const std::vector<float> theirs = Step(CpuBackend(), numerics);
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_FALSE(ours.empty());
  EXPECT_EQ(std::max_element(ours.begin(), ours.end()) - ours.begin(),
            std::max_element(theirs.begin(), theirs.end()) - theirs.begin());
  // A sum that lies between two bf16 values may go to either.
  EXPECT_LT(LargestDifference(ours, theirs), 0.2);
}

}  // namespace
}  // namespace orrery
