#include "tools/bench/model/model_bench.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/bench/model/model_report.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

ModelBenchOptions OfAbacus() {
  ModelBenchOptions options;
  options.cluster.model_dir = "models/abacus";
  options.processes.model_dir = options.cluster.model_dir;
  options.batches = {1, 3};
  options.prefills = {100};
  options.context_tokens = 16;
  options.num_steps = 5;
  options.num_rounds = 1;
  options.exchange_batch = 3;
  options.launch.bin_dir = ".";
  options.start_timeout = absl::Minutes(2);
  return options;
}

TEST(ModelBench, MeasuresEveryPhaseAndTheWayBetweenProcesses) {
  const auto result = RunModelBench(OfAbacus());
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->figures.size(), 3u);
  EXPECT_EQ(result->figures[1].num_rows, 3);
  EXPECT_EQ(result->figures[2].phase, "prefill");
  for (const ModelFigures& figures : result->figures) {
    EXPECT_GT(figures.seconds.median, 0.0);
    EXPECT_GT(figures.share.median, 0.0);
  }
  EXPECT_GT(result->loopback_over_processes.median, 0.0);
  EXPECT_GT(result->peak_bytes, 0);
  EXPECT_EQ(ModelFindings(*result).size(), 3u);
  EXPECT_THAT(ModelText(*result), HasSubstr("prefill     100"));
  EXPECT_THAT(ModelJson(*result), HasSubstr("\"exchange_batch\": 3"));
}

TEST(ModelBench, RefusesAPromptThatIsTooLongAndAModelThatItCannotCount) {
  ModelBenchOptions options = OfAbacus();
  options.prefills = {1 << 20};
  EXPECT_EQ(RunModelBench(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = OfAbacus();
  options.cluster.model_dir = "tests/data/golden/qwen2_tied";
  EXPECT_EQ(RunModelBench(options).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace orrery
