#include "tools/bench/step/step_bench.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(StepBench, TakesAStepApart) {
  StepBenchOptions options;
  options.cluster.model_dir = "models/abacus";
  options.num_sequences = 3;
  options.num_rounds = 5;
  const auto costs = MeasureStep(options);
  ASSERT_TRUE(costs.ok()) << costs.status();
  EXPECT_EQ(costs->num_exchanges, 4);  // abacus has one dense layer and four with experts
  EXPECT_GT(costs->step, absl::ZeroDuration());
  EXPECT_GT(costs->kernels, absl::ZeroDuration());
  EXPECT_GT(costs->round_trip, absl::ZeroDuration());
}

TEST(StepBench, AModelThatIsNotThereIsAnError) {
  StepBenchOptions options;
  options.cluster.model_dir = "models/nowhere";
  EXPECT_FALSE(MeasureStep(options).ok());
}

}  // namespace
}  // namespace orrery
