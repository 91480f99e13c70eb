// Capacity first, in a closed loop. Then requests arrive at four and at eight times of what the cluster can
// answer, each with a deadline. It should go on answering about as much as before, in time, and tell the
// others at once that there is no room.
//
// Goodput: the tokens, per second, of answers that ended in the window and within their deadline. Of answers
// that came too late nothing counts.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench/process_usage.h"
#include "tools/bench/scenarios.h"
#include "tools/bench/summary.h"

namespace orrery {
namespace {

constexpr double kOverloads[] = {4.0, 8.0};
constexpr double kMinShareOfPeak = 0.9;
constexpr double kMaxRefusalMs = 50.0;
// Allocators and pools of threads grow for a while: the first flood warms them up.
constexpr double kMaxGrowthMb = 8.0;
constexpr absl::Duration kMaxCapacityTime = absl::Minutes(1);
constexpr absl::Duration kDeadline = absl::Seconds(8);
// Enough that a flood meets the cluster's bounds, not the generator's.
constexpr int kMaxOpen = 4096;

Load Requests() {
  Load load;
  load.tenant = "flood";
  load.max_concurrency = kMaxOpen;
  load.prompt_tokens = {.min = 64, .max = 128};
  load.output_tokens = {.min = 16, .max = 48};
  load.deadline = kDeadline;
  return load;
}

struct Seen {
  double goodput = 0.0;  // tokens per second
  double requests_per_s = 0.0;
  int64_t num_late = 0;
  int64_t num_otherwise = 0;  // neither answered, nor refused, nor late
  std::vector<double> refusal_ms;
};

Seen Look(const PhaseResult& result) {
  Seen seen;
  const Window& window = result.record.window;
  int64_t num_tokens = 0, num_ended = 0;
  for (const RequestRecord& request : result.record.loads[0].requests) {
    if (request.was_cut) continue;
    if (request.status.ok()) {
      if (!window.Contains(request.end)) continue;
      ++num_ended;
      num_tokens += static_cast<int64_t>(request.tokens.size());
    } else if (absl::IsResourceExhausted(request.status)) {
      seen.refusal_ms.push_back(absl::ToDoubleMilliseconds(request.end - request.arrival));
    } else if (absl::IsDeadlineExceeded(request.status)) {
      ++seen.num_late;
    } else {
      ++seen.num_otherwise;
    }
  }
  seen.goodput = static_cast<double>(num_tokens) / window.seconds();
  seen.requests_per_s = static_cast<double>(num_ended) / window.seconds();
  return seen;
}

void JudgeMemory(ServeBench& bench, const std::vector<UsageSnapshot>& floods) {
  if (floods.back().children.empty()) {
    bench.options().out->Print(
        "memory is not judged: that takes a cluster that this run started\n");
    return;
  }
  for (const auto& [name, bytes] : GrowthBetween(floods.front(), floods.back())) {
    bench.Judge(absl::StrCat("MB by which ", name, " grew after the first flood"),
                static_cast<double>(bytes) * 1e-6, AtMost(kMaxGrowthMb));
  }
}

}  // namespace

absl::Status RunOverload(ServeBench& bench, const ScenarioOptions& options) {
  const int concurrency = options.concurrency > 0 ? options.concurrency : 64;
  const int rounds = options.rounds > 0 ? options.rounds : 2;
  const absl::Duration duration =
      options.duration > absl::ZeroDuration() ? options.duration : absl::Seconds(20);
  Phase phase = {.name = "capacity",
                 .loads = {Requests()},
                 .warmup = std::min(kDeadline, duration),
                 .duration = std::min(kMaxCapacityTime, duration),
                 .cut_at_end = true};
  phase.loads[0].concurrency = concurrency;
  ASSIGN_OR_RETURN(const PhaseResult* const alone, RunAndShow(bench, phase));
  const Seen capacity = Look(*alone);
  if (capacity.requests_per_s <= 0.0) return absl::UnavailableError("nothing was answered");

  double peak = capacity.goodput;
  std::vector<double> goodputs;
  std::vector<double> refusal_ms;
  int64_t num_late = 0, num_otherwise = 0;
  std::vector<UsageSnapshot> usage;
  phase.loads[0].concurrency = 0;
  phase.duration = duration;
  for (int round = 1; round <= rounds; ++round) {
    for (const double overload : kOverloads) {
      phase.name = absl::StrCat("round ", round, ", ", overload, " times of it");
      phase.loads[0].rate = overload * capacity.requests_per_s;
      ASSIGN_OR_RETURN(const PhaseResult* const flooded, RunAndShow(bench, phase));
      Seen seen = Look(*flooded);
      goodputs.push_back(seen.goodput);
      peak = std::max(peak, seen.goodput);
      num_late += seen.num_late;
      num_otherwise += seen.num_otherwise;
      refusal_ms.insert(refusal_ms.end(), seen.refusal_ms.begin(), seen.refusal_ms.end());
    }
    usage.push_back(TakeUsageSnapshot());
  }
  bench.Judge("capacity, requests/s", capacity.requests_per_s);
  bench.Judge("most goodput of any phase, tokens/s", peak);
  bench.Judge("least goodput under overload over the most",
              *std::min_element(goodputs.begin(), goodputs.end()) / peak, AtLeast(kMinShareOfPeak));
  bench.Judge(absl::StrCat("p99 of ", refusal_ms.size(), " refusals, ms"),
              Summarize(refusal_ms).p99, AtMost(kMaxRefusalMs));
  bench.Judge("requests taken in, and answered too late", static_cast<double>(num_late));
  bench.Judge("requests that ended otherwise", static_cast<double>(num_otherwise), AtMost(0.0));
  JudgeMemory(bench, usage);
  return absl::OkStatus();
}

}  // namespace orrery
