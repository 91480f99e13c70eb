#include "tools/bench/step/step_bench.h"

#include "gtest/gtest.h"
#include "tools/bench/step/stream_echo.h"

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

TEST(StreamEcho, BringsBackWhatWasAskedFor) {
  auto echo = StreamEcho::Start();
  ASSERT_TRUE(echo.ok()) << echo.status();
  for (const size_t size : {size_t{1}, size_t{5000}, size_t{500000}}) {
    const auto time = (*echo)->RoundTrip({.bytes_out = size, .bytes_back = size});
    ASSERT_TRUE(time.ok()) << time.status();
    EXPECT_GT(*time, absl::ZeroDuration());
  }
}

}  // namespace
}  // namespace orrery
