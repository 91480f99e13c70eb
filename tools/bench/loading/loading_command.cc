#include "tools/bench/loading/loading_command.h"

#include <cstdio>
#include <string>

#include "absl/strings/str_format.h"
#include "tools/bench/loading/loading_bench.h"
#include "tools/flags/command_line.h"
#include "tools/flags/local_flags.h"

namespace orrery {
namespace {

// A packed member is ready at this share of the speed of the disk.
constexpr double kMinRatio = 0.80;

absl::StatusOr<bool> Bench() {
  RETURN_IF_ERROR(
      AllowOnly("bench loading", {"backend", "cpu_variant", "ffn_products", "ffn_weights", "gpus",
                                  "linear_weights", "model", "precision", "row_format", "shards"}));
  ASSIGN_OR_RETURN(const LocalClusterOptions cluster, LocalClusterFromFlags(Precision::kBf16));
  const LoadingOptions options = {.model_dir = cluster.model_dir,
                                  .backend = cluster.backend,
                                  .cpu_variant = cluster.cpu_variant,
                                  .numerics = cluster.numerics,
                                  .num_shards = cluster.num_shards};
  ASSIGN_OR_RETURN(const std::vector<LoadingFigures> all, MeasureLoading(options));
  std::string text = absl::StrFormat(
      "a packed store, cold; GB/s, medians of %d rounds\n%-16s %10s %10s %8s %10s %8s %8s %8s\n",
      options.num_rounds, "", "MB", "ready", "loading", "sequential", "direct", "ratio", "memory");
  bool held = true;
  for (const LoadingFigures& figures : all) {
    absl::StrAppendFormat(&text, "%-16s %10.1f %8.2f s %8.2f %10.2f %8.2f %8.2f %8.2f\n",
                          figures.what, figures.num_bytes / 1e6, figures.seconds,
                          figures.load_rate / 1e9, figures.sequential_buffered / 1e9,
                          figures.sequential_direct / 1e9, figures.ratio, figures.memory / 1e9);
    held = held && figures.ratio >= kMinRatio;
  }
  absl::StrAppendFormat(
      &text,
      "\nsequential  one thread reads the same records, 4 MB at a time, through the page cache\n"
      "direct      the same past the page cache; ratio: of loading to the faster of the two\n"
      "memory      fresh pages from the system, taken and given back before each round\n\n"
      "%s  packed members are ready at %.0f %% of the speed of the disk\n",
      held ? "held  " : "MISSED", kMinRatio * 100);
  std::fputs(text.c_str(), stdout);
  return held;
}

}  // namespace

int RunBenchLoading() {
  const absl::StatusOr<bool> held = Bench();
  if (!held.ok()) {
    return Fail("bench loading", held.status());
  }
  return *held ? 0 : 1;
}

}  // namespace orrery
