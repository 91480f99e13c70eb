#include "tools/bench/kernels/kernels_command.h"

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/kernel_bench.h"
#include "tools/bench/kernels/kernel_report.h"
#include "tools/bench/kernels/machine/machine_facts.h"
#include "tools/bench/kernels/make_target.h"
#include "tools/bench/serve_flags.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/flags/scenario_flags.h"
#include "tools/terminal.h"

ABSL_FLAG(std::string, device, "cpu",
          "of bench kernels: what to measure: cpu, or cuda: the first GPU");
ABSL_FLAG(std::string, preset, "v3-mini",
          "of bench kernels and bench model: shapes to measure: v3-mini or r1-layer");
ABSL_FLAG(std::string, filter, "",
          "of bench kernels: only operations with this in their name, which is like "
          "feed_forward/fp8/16");
ABSL_FLAG(absl::Duration, min_time, absl::Milliseconds(500),
          "of bench kernels: how long to measure each operation, and its peer, at least");
ABSL_FLAG(int64_t, working_set, 0,
          "of bench kernels: bytes that calls go round; 0: three times the last-level cache (of a "
          "GPU: its L2)");

namespace orrery {
namespace {

constexpr int kMaxThreads = 1024;

absl::StatusOr<KernelBenchOptions> OptionsFromFlags() {
  KernelBenchOptions options;
  options.command =
      CommandFromFlags({kKernelsFlags, kScenarioFlags, kClusterFlags}, "orrery bench kernels");
  ASSIGN_OR_RETURN(options.preset, FindKernelPreset(absl::GetFlag(FLAGS_preset)));
  if (absl::GetFlag(FLAGS_device) == "cuda") options.preset = LoadOfGpu(options.preset);
  options.filter = absl::GetFlag(FLAGS_filter);
  options.min_time = absl::GetFlag(FLAGS_min_time);
  if (options.min_time < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("--min_time cannot be negative");
  }
  return options;
}

absl::StatusOr<std::unique_ptr<BenchTarget>> TargetFromFlags() {
  CpuTargetOptions options;
  ASSIGN_OR_RETURN(options.variant, ParseCpuVariant(absl::GetFlag(FLAGS_cpu_variant)));
  options.working_set_bytes = absl::GetFlag(FLAGS_working_set);
  options.num_threads = absl::GetFlag(FLAGS_threads);
  if (options.num_threads == 0) options.num_threads = ReadMachineFacts("/").num_cores;
  if (options.working_set_bytes < 0) {
    return absl::InvalidArgumentError("--working_set cannot be negative");
  }
  if (options.num_threads < 1 || options.num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads is ", options.num_threads, ", must be 0 to ", kMaxThreads));
  }
  return MakeTarget(absl::GetFlag(FLAGS_device), options);
}

absl::Status Bench(KernelBenchOptions options) {
  Terminal out(stdout);
  options.on_begin = [&](const KernelBenchResult& result) { out.Print(KernelHeadText(result)); };
  options.on_figures = [&](const KernelFigures& figures) { out.Print(KernelRowText(figures)); };
  ASSIGN_OR_RETURN(const std::unique_ptr<BenchTarget> target, TargetFromFlags());
  ASSIGN_OR_RETURN(const KernelBenchResult result, RunKernelBench(options, *target));
  out.Print(KernelEndText(result));
  const std::string path = absl::GetFlag(FLAGS_json_file);
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << KernelJson(result);
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

}  // namespace

int RunBenchKernels() {
  absl::StatusOr<KernelBenchOptions> options = OptionsFromFlags();
  const absl::Status status = options.ok() ? Bench(*std::move(options)) : options.status();
  if (status.ok()) return 0;
  return Fail("bench kernels", status);
}

}  // namespace orrery
