// Capacity first, in a closed loop; each of two tenants has a right to half of it. Then tenant B
// asks for a fifth of its half, alone and beside A, who asks for eight times its own, in turns.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/bench/scenarios.h"
#include "tools/bench/summary.h"

namespace orrery {
namespace {

constexpr double kDemandOfA = 8.0;  // of its share
constexpr double kDemandOfB = 0.2;
constexpr double kMinShareOfFair = 0.9;
constexpr double kMaxTtftRatio = 2.0;
// Enough that a flood meets the cluster's bounds, not the generator's.
constexpr int kMaxOpen = 2048;

Load Requests(const std::string& tenant) {
  Load load;
  load.tenant = tenant;
  load.max_concurrency = kMaxOpen;
  load.prompt_tokens = {.min = 512, .max = 1024};
  load.output_tokens = {.min = 16, .max = 48};
  return load;
}

Load AtRate(const std::string& tenant, double rate) {
  Load load = Requests(tenant);
  load.rate = rate;
  return load;
}

// What it got of the output tokens that it asked for in the window.
double ShareOfDemand(const LoadRecord& load, const Window& window) {
  double demanded = 0.0, got = 0.0;
  for (const RequestRecord& request : load.requests) {
    if (request.is_measured) demanded += request.output_tokens;
    for (const absl::Time token : request.tokens) got += window.Contains(token);
  }
  return demanded > 0.0 ? got / demanded : 0.0;
}

struct Seen {
  std::vector<double> ttft_ms;
  std::vector<double> shares;
  int64_t num_errors = 0;

  void Add(const PhaseResult& result, size_t load) {
    const std::vector<double> more = TtftMs(result.record.loads[load], result.record.window);
    ttft_ms.insert(ttft_ms.end(), more.begin(), more.end());
    shares.push_back(ShareOfDemand(result.record.loads[load], result.record.window));
    for (const auto& [code, count] : result.figures[load].num_errors) num_errors += count;
  }
};

absl::StatusOr<double> MeasureCapacity(ServeBench& bench, int concurrency,
                                       absl::Duration duration) {
  Load load = Requests("A");
  load.concurrency = concurrency;
  ASSIGN_OR_RETURN(const PhaseResult* const result, RunAndShow(bench, {.name = "capacity",
                                                                       .loads = {load},
                                                                       .warmup = absl::Seconds(2),
                                                                       .duration = duration,
                                                                       .cut_at_end = true}));
  if (result->total.requests_per_s > 0.0) return result->total.requests_per_s;
  return absl::UnavailableError("no answer came while the capacity was measured");
}

}  // namespace

absl::Status RunTenants(ServeBench& bench, const ScenarioOptions& options) {
  const int concurrency = options.concurrency > 0 ? options.concurrency : 64;
  const int rounds = options.rounds > 0 ? options.rounds : 2;
  const absl::Duration duration =
      options.duration > absl::ZeroDuration() ? options.duration : absl::Seconds(20);
  ASSIGN_OR_RETURN(const double capacity,
                   MeasureCapacity(bench, concurrency, std::min(duration, absl::Seconds(10))));
  const double share = capacity / 2.0;
  Seen alone, beside, flood;
  for (int round = 1; round <= rounds; ++round) {
    Phase phase = {.name = absl::StrCat("round ", round, ", B alone"),
                   .loads = {AtRate("B", kDemandOfB * share)},
                   .warmup = absl::Seconds(3),
                   .duration = duration,
                   .cut_at_end = true};
    ASSIGN_OR_RETURN(const PhaseResult* const quiet, RunAndShow(bench, phase));
    alone.Add(*quiet, 0);
    phase.name = absl::StrCat("round ", round, ", B beside A");
    phase.loads.push_back(AtRate("A", kDemandOfA * share));
    ASSIGN_OR_RETURN(const PhaseResult* const loud, RunAndShow(bench, phase));
    beside.Add(*loud, 0);
    flood.Add(*loud, 1);
  }
  const double ttft_alone = Summarize(alone.ttft_ms).p99;
  bench.Judge("capacity, requests/s", capacity);
  bench.Judge("requests of A refused", static_cast<double>(flood.num_errors));
  bench.Judge("A's tokens over its demand", Median(flood.shares));
  bench.Judge("requests of B refused", static_cast<double>(beside.num_errors), AtMost(0.0));
  bench.Judge("B's tokens over its fair share (its demand), median of rounds",
              Median(beside.shares), AtLeast(kMinShareOfFair));
  bench.Judge(
      absl::StrCat("B's TTFT p99 beside A over alone, ", beside.ttft_ms.size(), " requests"),
      ttft_alone > 0.0 ? Summarize(beside.ttft_ms).p99 / ttft_alone : 0.0, AtMost(kMaxTtftRatio));
  return absl::OkStatus();
}

}  // namespace orrery
