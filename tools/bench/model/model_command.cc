#include "tools/bench/model/model_command.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/processors.h"
#include "tools/bench/kernels/kernels_command.h"
#include "tools/bench/model/model_bench.h"
#include "tools/bench/model/model_report.h"
#include "tools/bench/report.h"
#include "tools/bench/serve_flags.h"
#include "tools/bench/synthetic/synthetic_model.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/flags/local_flags.h"
#include "tools/flags/scenario_flags.h"
#include "tools/terminal.h"

ABSL_FLAG(std::vector<std::string>, batches, std::vector<std::string>({"1", "8", "64"}),
          "of bench model: sequences that decode side by side, one run each");
ABSL_FLAG(int, context_tokens, 128,
          "of bench model: tokens of each of these sequences when its decoding begins");
ABSL_FLAG(int, prefill_tokens, 2048, "of bench model: tokens of the prompt; 0: none");
ABSL_FLAG(
    int, exchange_batch, 8,
    "of bench model: sequences of the run with two shards, as processes and in one; 0: no such "
    "run");
ABSL_FLAG(std::string, synthetic_dir, "",
          "of bench model: where the preset's model is written, and found again the next time; "
          "empty: in the folder for temporary files");

namespace orrery {
namespace {

absl::StatusOr<std::vector<int>> Batches() {
  constexpr int kMaxBatch = 1024;
  std::vector<int> batches;
  for (const std::string& text : absl::GetFlag(FLAGS_batches)) {
    int batch = 0;
    if (!absl::SimpleAtoi(text, &batch) || batch < 1 || batch > kMaxBatch) {
      return absl::InvalidArgumentError(
          absl::StrCat("--batches has \"", text, "\", must be numbers from 1 to ", kMaxBatch));
    }
    batches.push_back(batch);
  }
  if (batches.empty()) return absl::InvalidArgumentError("--batches is empty");
  return batches;
}

// --model, or the preset's, which is written if it is not there.
absl::StatusOr<std::string> ModelDir(Terminal& out) {
  if (!absl::GetFlag(FLAGS_model).empty()) return absl::GetFlag(FLAGS_model);
  ASSIGN_OR_RETURN(const SyntheticShape shape, FindSyntheticShape(absl::GetFlag(FLAGS_preset)));
  std::string dir = absl::GetFlag(FLAGS_synthetic_dir);
  if (dir.empty()) {
    dir = (std::filesystem::temp_directory_path() / ("orrery-" + shape.name)).string();
  }
  const absl::Time begin = absl::Now();
  const absl::Status written = WriteSyntheticModel(shape, dir, [&](int64_t done, int64_t total) {
    out.ShowProgress(ProgressLine({.label = "writing the model",
                                   .done = done,
                                   .total = total,
                                   .elapsed = absl::Now() - begin,
                                   .unit = "bytes"},
                                  40));
  });
  out.ClearProgress();
  RETURN_IF_ERROR(written);
  return dir;
}

absl::StatusOr<ModelBenchOptions> OptionsFromFlags() {
  RETURN_IF_ERROR(AllowOnly(
      "bench model", {"batches", "bin_dir", "context_tokens", "cpu_variant", "exchange",
                      "exchange_batch", "ffn_weights", "json_file", "model", "prefill_tokens",
                      "preset", "row_format", "start_timeout", "synthetic_dir", "threads"}));
  ModelBenchOptions options;
  options.command = CommandFromFlags({kModelFlags, kKernelsFlags, kScenarioFlags, kClusterFlags},
                                     "orrery bench model");
  ASSIGN_OR_RETURN(options.batches, Batches());
  ASSIGN_OR_RETURN(options.cluster, LocalClusterFromFlags(Precision::kBf16));
  if (absl::GetFlag(FLAGS_threads) == 0) options.cluster.num_threads = NumUsableProcessors();
  options.prefills.clear();
  if (const int tokens = absl::GetFlag(FLAGS_prefill_tokens); tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prefill_tokens is ", tokens, ", must not be negative"));
  } else if (tokens > 0) {
    options.prefills.push_back(tokens);
  }
  options.context_tokens = absl::GetFlag(FLAGS_context_tokens);
  if (options.context_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context_tokens is ", options.context_tokens, ", must be at least 1"));
  }
  options.exchange_batch = absl::GetFlag(FLAGS_exchange_batch);
  if (options.exchange_batch < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--exchange_batch is ", options.exchange_batch, ", must not be negative"));
  }
  ASSIGN_OR_RETURN(options.launch, LaunchOptionsFromFlags());
  options.start_timeout = absl::GetFlag(FLAGS_start_timeout);
  return options;
}

absl::StatusOr<bool> Bench(ModelBenchOptions options) {
  Terminal out(stdout);
  ASSIGN_OR_RETURN(options.cluster.model_dir, ModelDir(out));
  ASSIGN_OR_RETURN(options.processes, TopologyFromFlags());
  options.processes.model_dir = options.cluster.model_dir;
  out.Print(options.command, "\nmodel ", options.cluster.model_dir, "\n");
  options.on_progress = [&](const std::string& what) {
    if (out.is_tty()) {
      out.ShowProgress(what);
    } else {
      out.Print(what, "\n");
    }
  };
  ASSIGN_OR_RETURN(const ModelBenchResult result, RunModelBench(options));
  out.ClearProgress();
  out.Print(result.cluster, ModelText(result), "\n");
  bool held = true;
  for (const Finding& finding : ModelFindings(result)) {
    out.Print(FindingText(finding));
    held = held && finding.held;
  }
  const std::string path = absl::GetFlag(FLAGS_json_file);
  if (path.empty()) return held;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << ModelJson(result);
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return held;
}

}  // namespace

int RunBenchModel() {
  absl::StatusOr<ModelBenchOptions> options = OptionsFromFlags();
  const absl::StatusOr<bool> held = options.ok() ? Bench(*std::move(options)) : options.status();
  if (!held.ok()) {
    return Fail("bench model", held.status());
  }
  return *held ? 0 : 1;
}

}  // namespace orrery
