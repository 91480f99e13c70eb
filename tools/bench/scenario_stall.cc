// Long answers stream; then the same with long prompts arriving beside them, in turns.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/bench/scenarios.h"
#include "tools/bench/summary.h"

namespace orrery {
namespace {

constexpr double kMaxRatio = 3.0;
constexpr int kPromptTokens = 2000;
constexpr double kPromptsPerSecond = 0.5;

// Answers so long that hardly a stream begins or ends within a window: their own short prompts do
// not disturb.
Load Streams(int concurrency) {
  Load load;
  load.tenant = "streams";
  load.concurrency = concurrency;
  load.prompt_tokens = {.min = 16, .max = 16};
  load.output_tokens = {.min = 2048, .max = 2048};
  return load;
}

Load Prompts() {
  Load load;
  load.tenant = "prompts";
  load.rate = kPromptsPerSecond;
  load.arrivals = Arrivals::kRegular;
  load.prompt_tokens = {.min = kPromptTokens, .max = kPromptTokens};
  load.output_tokens = {.min = 1, .max = 1};
  return load;
}

}  // namespace

absl::Status RunStall(ServeBench& bench, const ScenarioOptions& options) {
  const int concurrency = options.concurrency > 0 ? options.concurrency : 16;
  const int rounds = options.rounds > 0 ? options.rounds : 3;
  const absl::Duration duration =
      options.duration > absl::ZeroDuration() ? options.duration : absl::Seconds(10);
  std::vector<double> ratios;
  int64_t num_prompts = 0;
  for (int round = 1; round <= rounds; ++round) {
    Phase phase = {.name = absl::StrCat("round ", round, ", streams alone"),
                   .loads = {Streams(concurrency)},
                   .warmup = std::min(absl::Seconds(2), duration),
                   .duration = duration,
                   .cut_at_end = true};
    ASSIGN_OR_RETURN(const PhaseResult* const alone, RunAndShow(bench, phase));
    phase.name = absl::StrCat("round ", round, ", prompts arriving");
    phase.loads.push_back(Prompts());
    ASSIGN_OR_RETURN(const PhaseResult* const beside, RunAndShow(bench, phase));
    if (alone->figures[0].itl_ms.p99 <= 0.0 || beside->figures[0].itl_ms.count == 0) {
      return absl::UnavailableError(absl::StrCat("no stream ran in round ", round));
    }
    ratios.push_back(beside->figures[0].itl_ms.p99 / alone->figures[0].itl_ms.p99);
    num_prompts += beside->figures[1].ttft_ms.count;
  }
  // Without them there was nothing to bear.
  bench.Judge(absl::StrCat("prompts of ", kPromptTokens, " tokens that were read"),
              static_cast<double>(num_prompts), AtLeast(1.0));
  bench.Judge(absl::StrCat("p99 ITL of ", concurrency, " streams with prompts of ", kPromptTokens,
                           " tokens arriving over without, median of ", rounds, " rounds"),
              Median(ratios), AtMost(kMaxRatio));
  return absl::OkStatus();
}

}  // namespace orrery
