// Phases with one stream and with many take turns, so that a machine that gets slower or faster
// meanwhile changes both.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/bench/scenarios.h"
#include "tools/bench/summary.h"

namespace orrery {
namespace {

constexpr double kMinRatio = 6.0;

Phase Streams(int round, int concurrency, absl::Duration duration) {
  Load load;
  load.concurrency = concurrency;
  load.prompt_tokens = {.min = 16, .max = 48};
  load.output_tokens = {.min = 96, .max = 160};
  return {.name = absl::StrCat("round ", round, ", ", concurrency, " at a time"),
          .loads = {load},
          .warmup = std::min(absl::Seconds(2), duration),
          .duration = duration,
          .cut_at_end = true};
}

}  // namespace

absl::Status RunBatch(ServeBench& bench, const ScenarioOptions& options) {
  const int concurrency = options.concurrency > 0 ? options.concurrency : 32;
  const int rounds = options.rounds > 0 ? options.rounds : 3;
  const absl::Duration duration =
      options.duration > absl::ZeroDuration() ? options.duration : absl::Seconds(8);
  std::vector<double> ratios;
  for (int round = 1; round <= rounds; ++round) {
    ASSIGN_OR_RETURN(const PhaseResult* const one, RunAndShow(bench, Streams(round, 1, duration)));
    ASSIGN_OR_RETURN(const PhaseResult* const many,
                     RunAndShow(bench, Streams(round, concurrency, duration)));
    if (one->total.output_tokens_per_s <= 0.0) {
      return absl::UnavailableError(absl::StrCat("no token came in round ", round));
    }
    ratios.push_back(many->total.output_tokens_per_s / one->total.output_tokens_per_s);
  }
  bench.Judge(
      absl::StrCat("output tokens/s at ", concurrency, " over at 1, median of ", rounds, " rounds"),
      Median(ratios), AtLeast(kMinRatio));
  return absl::OkStatus();
}

}  // namespace orrery
