#include "tools/bench/kernels/kernel_bench.h"

#include <set>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tools/bench/kernels/cpu/cpu_target.h"
#include "tools/bench/kernels/kernel_report.h"

namespace orrery {
namespace {

constexpr int64_t kWorkingSetBytes = 100'000;

// A model so small that everything takes milliseconds; nothing is a multiple of anything.
KernelBenchOptions Tiny() {
  KernelBenchOptions options;
  options.command = "orrery bench kernels";
  options.preset = {.name = "tiny",
                    .hidden = 136,
                    .expert_width = 70,
                    .num_experts = 12,
                    .num_experts_per_token = 3,
                    .num_groups = 4,
                    .num_kept_groups = 2,
                    .q_lora_rank = 20,
                    .kv_lora_rank = 34,
                    .num_heads = 3,
                    .nope_dim = 10,
                    .rope_dim = 6,
                    .value_dim = 12,
                    .vocab_size = 50,
                    .projections = DType::kFp8E4m3,
                    .expert_rows = {1, 5},
                    .projection_rows = {2},
                    .decode_contexts = {70},
                    .decode_batches = {1, 3},
                    .prefill_rows = 8,
                    .prefill_context = 66};
  options.min_time = absl::ZeroDuration();
  options.num_rounds = 2;
  return options;
}

absl::StatusOr<KernelBenchResult> RunTiny(const KernelBenchOptions& options, int num_threads = 1) {
  ASSIGN_OR_RETURN(
      const std::unique_ptr<BenchTarget> target,
      MakeCpuTarget({.num_threads = num_threads, .working_set_bytes = kWorkingSetBytes}));
  return RunKernelBench(options, *target);
}

std::set<std::string> Names(const KernelBenchResult& result) {
  std::set<std::string> names;
  for (const KernelFigures& figures : result.figures) names.insert(figures.what.name());
  return names;
}

TEST(KernelBench, MeasuresEveryOperationOfAPreset) {
  const auto result = RunTiny(Tiny());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Names(*result),
            (std::set<std::string>{
                "feed_forward/bf16/1",      "feed_forward/bf16/5",     "feed_forward/fp8/1",
                "feed_forward/fp8/5",       "feed_forward/int8/1",     "feed_forward/int8/5",
                "feed_forward/int4/1",      "feed_forward/int4/5",     "matmul_q_a/fp8/2",
                "matmul_q_b/fp8/2",         "matmul_kv_a/fp8/2",       "matmul_o/fp8/2",
                "matmul_head/bf16/2",       "attend_decode_70/bf16/1", "attend_decode_70/bf16/3",
                "attend_prefill_66/bf16/8", "rms_norm/f32/64",         "gate/f32/64",
                "encode_rows/bf16/64",      "decode_rows/bf16/64",     "encode_rows/fp8/64",
                "decode_rows/fp8/64",       "weighted_sum/f32/64",     "log_softmax/f32/8"}));
  for (const KernelFigures& figures : result->figures) {
    EXPECT_GT(figures.seconds.min, 0.0) << figures.what.name();
    EXPECT_GT(figures.work.bytes, 0.0) << figures.what.name();
    EXPECT_GT(figures.share.min, 0.0) << figures.what.name();
    EXPECT_EQ(figures.num_rounds, 2);
  }
}

TEST(KernelBench, CountsTheWorkOfAnOperation) {
  KernelBenchOptions options = Tiny();
  const auto work_of = [&options](const std::string& name) {
    options.filter = name;
    const auto result = RunTiny(options);
    return result.ok() && result->figures.size() == 1 ? result->figures[0].work : Work();
  };
  // Three experts in a call.
  EXPECT_DOUBLE_EQ(work_of("feed_forward/bf16/5").flops, 3 * 2.0 * 5 * 3 * 136 * 70);
  EXPECT_GE(work_of("feed_forward/bf16/5").bytes, 3 * 2.0 * 3 * 136 * 70);
  EXPECT_DOUBLE_EQ(work_of("matmul_q_b/fp8/2").flops, 2.0 * 2 * 20 * 3 * 16);
  // Three sequences, all of whose 70 tokens are seen by 3 heads.
  EXPECT_DOUBLE_EQ(work_of("attend_decode_70/bf16/3").bytes, 2.0 * 3 * 70 * 40);
  EXPECT_DOUBLE_EQ(work_of("attend_decode_70/bf16/3").flops, 2.0 * 3 * 3 * 70 * (40 + 34));
  // Rows 58 to 65 see 59 to 66 tokens.
  EXPECT_DOUBLE_EQ(work_of("attend_prefill").flops, 2.0 * 3 * (8 * 62.5) * (40 + 34));
  EXPECT_DOUBLE_EQ(work_of("rms_norm").bytes, 4.0 * 64 * 136);
  EXPECT_DOUBLE_EQ(work_of("weighted_sum").bytes, 4.0 * 64 * 3 * 136);
  EXPECT_DOUBLE_EQ(work_of("gate").bytes, 4.0 * 64 * 12);
  EXPECT_DOUBLE_EQ(work_of("decode_rows/bf16").bytes, 2.0 * 64 * 136);
}

// Past a cache that 100,000 bytes do not fit in, results are written to memory as well.
TEST(KernelBench, CountsWhatRowsWriteWhereItGoesPastTheCache) {
  KernelBenchOptions options = Tiny();
  options.preset.rows_past_cache = true;
  const auto figures_of = [&options](const std::string& name) {
    options.filter = name;
    const auto result = RunTiny(options);
    return result.ok() && result->figures.size() == 1 ? result->figures[0] : KernelFigures();
  };
  EXPECT_EQ(figures_of("rms_norm").what.num_rows, 128);
  EXPECT_DOUBLE_EQ(figures_of("rms_norm").work.bytes, 128 * 2 * 4.0 * 136);
  EXPECT_EQ(figures_of("gate").what.num_rows, 2048);
  EXPECT_DOUBLE_EQ(figures_of("gate").work.bytes, 2048 * (4.0 * 12 + 8.0 * 3));
  EXPECT_DOUBLE_EQ(figures_of("decode_rows/bf16").work.bytes, 128 * 6.0 * 136);
}

TEST(KernelBench, ComputesSoManyExpertsInACall) {
  KernelBenchOptions options = Tiny();
  options.preset.experts_per_call = 4;
  options.filter = "feed_forward/fp8/5";
  const auto result = RunTiny(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->figures[0].what.shape, "4 x 136 > 70");
  EXPECT_DOUBLE_EQ(result->figures[0].work.flops, 4 * 2.0 * 5 * 3 * 136 * 70);
}

TEST(KernelBench, ProductsHaveAPeerAndTheRestHasNone) {
  const KernelBenchOptions options = Tiny();
  const auto result = RunTiny(options, /*num_threads=*/2);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const KernelFigures& figures : result->figures) {
    const std::string name = figures.what.name();
    const bool is_product = name.rfind("feed_forward", 0) == 0 || name.rfind("matmul", 0) == 0;
    EXPECT_EQ(figures.peer_ratio.has_value(), is_product) << name;
  }
}

TEST(KernelBench, WritesJsonThatSaysEverything) {
  KernelBenchOptions options = Tiny();
  options.filter = "a";  // most of them
  const auto result = RunTiny(options);
  ASSERT_TRUE(result.ok()) << result.status();
  const nlohmann::json json = nlohmann::json::parse(KernelJson(*result));
  EXPECT_EQ(json.at("benchmark"), "orrery bench kernels");
  EXPECT_EQ(json.at("preset"), "tiny");
  EXPECT_EQ(json.at("working_set_bytes"), 100'000);
  EXPECT_GT(json.at("ceilings").at(0).at("bytes_per_s").at("median"), 0.0);
  ASSERT_EQ(json.at("rows").size(), result->figures.size());
  for (size_t i = 0; i < result->figures.size(); ++i) {
    const nlohmann::json& row = json.at("rows").at(i);
    const KernelFigures& figures = result->figures[i];
    EXPECT_EQ(row.at("name"), figures.what.name());
    EXPECT_EQ(row.at("rows"), figures.what.num_rows);
    EXPECT_EQ(row.at("seconds").at("median"), figures.seconds.median);
    EXPECT_EQ(row.at("share").at("median"), figures.share.median);
    EXPECT_TRUE(row.at("bound") == "memory" || row.at("bound") == "compute");
    EXPECT_EQ(row.at("peer").is_null(), !figures.peer_ratio.has_value());
  }
}

TEST(KernelBench, PrintsARowPerOperation) {
  KernelFigures figures;
  figures.what = {.operation = "matmul_o", .format = "fp8", .num_rows = 16, .shape = "3 > 4"};
  figures.work = {.bytes = 1e6, .flops = 2e6};
  figures.seconds = {.median = 1e-3, .min = 0.5e-3, .max = 2e-3};
  figures.bytes_per_s = 1e9;
  figures.flops_per_s = 2e9;
  figures.bound = Bound::kCompute;
  figures.share.median = 0.755;
  EXPECT_EQ(KernelRowText(figures),
            "matmul_o             fp8      16  3 > 4                      1000.0     (500.0 to "
            "2000.0)    1.00      2.0  compute   75.5%         -\n");
}

TEST(KernelBench, AFilterThatFitsNothingIsAnError) {
  KernelBenchOptions options = Tiny();
  options.filter = "nothing is called this";
  EXPECT_EQ(RunTiny(options).status().code(), absl::StatusCode::kNotFound);
}

TEST(KernelPreset, HasTheNamesThatPeopleSay) {
  EXPECT_EQ(FindKernelPreset("v3-mini")->hidden, 2048);
  EXPECT_EQ(FindKernelPreset("r1-layer")->expert_width, 2048);
  EXPECT_EQ(LoadOfGpu(*FindKernelPreset("r1-layer")).decode_batches.back(), 64);
  EXPECT_EQ(FindKernelPreset("r1").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace orrery
