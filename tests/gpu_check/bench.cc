#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/gpu_check/parts.h"
#include "tests/gpu_check/targets.h"
#include "tools/bench/kernels/cuda/cublaslt.h"
#include "tools/bench/kernels/cuda/cuda_target.h"
#include "tools/bench/kernels/kernel_bench.h"
#include "tools/bench/kernels/kernel_report.h"

namespace orrery {
namespace {

constexpr char kSuite[] = "Bench";

// For the stand-in, where the figures mean nothing: everything once, past a cache of 16 KiB.
constexpr int64_t kSmallWorkingSet = 16 << 10;
KernelPreset SmallPreset() {
  KernelPreset preset = {.name = "small",
                         .hidden = 136,
                         .expert_width = 40,
                         .num_experts = 12,
                         .num_experts_per_token = 3,
                         .num_groups = 4,
                         .num_kept_groups = 2,
                         .q_lora_rank = 20,
                         .kv_lora_rank = 32,
                         .num_heads = 2,
                         .nope_dim = 16,
                         .rope_dim = 16,
                         .value_dim = 16,
                         .projections = DType::kFp8E4m3,
                         .expert_rows = {1, 3},
                         .fp8_products = true,
                         .experts_per_call = 2,
                         .projection_rows = {2},
                         .decode_contexts = {70},
                         .decode_batches = {2},
                         .prefill_rows = 2,
                         .prefill_context = 66,
                         .rows_past_cache = true};
  return preset;
}

absl::Status Measure(const GpuCheckOptions& asked) {
  CudaTargetOptions target_options = {.gemms = OpenCublasLt()};
  KernelBenchOptions options;
  options.command = "gpu_check";
  options.filter = asked.filter;
  options.min_time = asked.min_time;
  if (asked.is_small) {
    options.preset = SmallPreset();
    options.num_rounds = 1;
    target_options.working_set_bytes = kSmallWorkingSet;
    target_options.copy_bytes = kSmallWorkingSet;
  } else {
    ASSIGN_OR_RETURN(options.preset, FindKernelPreset(asked.preset));
    options.preset = LoadOfGpu(options.preset);
  }
  options.on_begin = [](const KernelBenchResult& result) {
    std::printf("%s", KernelHeadText(result).c_str());
  };
  options.on_figures = [](const KernelFigures& figures) {
    std::printf("%s", KernelRowText(figures).c_str());
    std::fflush(stdout);
  };
  ASSIGN_OR_RETURN(const std::unique_ptr<BenchTarget> target,
                   MakeCudaTarget(std::move(target_options)));
  ASSIGN_OR_RETURN(const KernelBenchResult result, RunKernelBench(options, *target));
  std::printf("%s", KernelEndText(result).c_str());
  if (!result.note.empty()) Note(result.note);
  for (const CeilingFigures& ceiling : result.ceilings) {
    Note(absl::StrFormat("%s: %s %.0f GB/s, %s %.1f TFLOP/s", ceiling.name,
                         result.target.memory_ceiling, ceiling.bytes_per_s.median * 1e-9,
                         result.target.compute_ceiling, ceiling.flops_per_s.median * 1e-12));
  }
  for (const std::string& line : TargetLines(result.figures)) Note(line);
  if (asked.json_file.empty()) return absl::OkStatus();
  std::ofstream file(asked.json_file, std::ios::binary | std::ios::trunc);
  file << KernelJson(result);
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError("cannot write " + asked.json_file);
}

}  // namespace

void RegisterBench(const GpuCheckOptions& options) {
  RegisterTest(kSuite, "MeasuresEveryOperation", [options] {
    const absl::Status status = Measure(options);
    EXPECT_TRUE(status.ok()) << status;
  });
}

}  // namespace orrery
