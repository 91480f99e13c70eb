#include "tools/pack_command.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tools/flags/cluster_flags.h"
#include "tools/flags/command_line.h"
#include "tools/flags/local_flags.h"
#include "tools/flags/out_flag.h"
#include "tools/pack/pack_model.h"
#include "tools/terminal.h"

ABSL_FLAG(bool, verify, false, "read the whole store afterwards, and compare its checksums");

namespace orrery {
namespace {

constexpr int kBarWidth = 30;
constexpr double kMillion = 1e6;

// What was there before is not part of the rate.
void ShowProgress(const PackProgress& packed, absl::Time begin, Terminal& out) {
  out.ShowProgress(
      ProgressLine({.label = "packing",
                    .done = static_cast<int64_t>((packed.done - packed.kept) / kMillion),
                    .total = static_cast<int64_t>((packed.total - packed.kept) / kMillion),
                    .elapsed = absl::Now() - begin,
                    .unit = "million weights"},
                   kBarWidth));
}

absl::StatusOr<PackModelOptions> OptionsFromFlags() {
  RETURN_IF_ERROR(
      AllowOnly("pack", {"backend", "cpu_variant", "ffn_products", "ffn_weights", "linear_weights",
                         "model", "out", "precision", "row_format", "threads", "verify"}));
  ASSIGN_OR_RETURN(const LocalClusterOptions cluster, LocalClusterFromFlags(Precision::kBf16));
  const int threads = absl::GetFlag(FLAGS_threads);
  if (threads < 0) return absl::InvalidArgumentError("--threads is negative");
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return PackModelOptions{.model_dir = cluster.model_dir,
                          .out_dir = absl::GetFlag(FLAGS_out),
                          .backend = cluster.backend,
                          .cpu_variant = cluster.cpu_variant,
                          .numerics = cluster.numerics,
                          .num_threads = threads > 0 ? threads : processors};
}

absl::Status Verify(const PackedModel& packed, Terminal& out) {
  std::atomic<int64_t> num_bytes = 0;
  const absl::Time begin = absl::Now();
  RETURN_IF_ERROR(VerifyPackedStore(packed.store_dir, &num_bytes));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  out.Print(absl::StrFormat("every record has its checksum: %.1f MB in %.1f s, %.2f GB/s\n",
                            num_bytes / 1e6, seconds, num_bytes / 1e9 / seconds));
  return absl::OkStatus();
}

absl::Status Pack() {
  ASSIGN_OR_RETURN(const PackModelOptions options, OptionsFromFlags());
  Terminal out(stdout);
  absl::Time begin = absl::Now();
  int64_t kept = 0;
  const auto packed = PackModelDir(options, [&](const PackProgress& progress) {
    if (progress.kept != kept) begin = absl::Now();  // still looking at what is there
    kept = progress.kept;
    ShowProgress(progress, begin, out);
  });
  out.ClearProgress();
  RETURN_IF_ERROR(packed.status());
  if (packed->was_there) {
    out.Print("up to date: ", packed->store_dir, "\n");
  } else {
    out.Print(absl::StrFormat("packed %s: %.1f MB in %.1f s\n", packed->store_dir,
                              packed->num_bytes / 1e6, absl::ToDoubleSeconds(absl::Now() - begin)));
    if (kept > 0) {
      out.Print(absl::StrFormat("went on after %.0f million weights that were packed before\n",
                                kept / kMillion));
    }
  }
  return absl::GetFlag(FLAGS_verify) ? Verify(*packed, out) : absl::OkStatus();
}

}  // namespace

int RunPack(const std::vector<std::string>&) {
  const absl::Status status = Pack();
  if (status.ok()) return 0;
  return Fail("pack", status);
}

}  // namespace orrery
