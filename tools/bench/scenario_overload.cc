// How much can be answered, in a closed loop. Then requests arrive at four and at eight times of that, each
// with a deadline. The cluster should go on answering about as much as it can, in time, and tell the others at
// once that there is no room.
//
// As much as it can: the most goodput of any phase. What sending and refusing cost by themselves, on a machine that
// generator and cluster share, is told apart by a closed loop while the same generator sends as many requests as it
// would in the flood; those that the cluster has no room for go to a server that refuses every call and does
// nothing else.
//
// Goodput: the tokens, per second, of answers that ended in the window and within their deadline. Of answers
// that came too late nothing counts.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench/process_usage.h"
#include "tools/bench/refusing_server.h"
#include "tools/bench/scenarios.h"
#include "tools/bench/summary.h"

namespace orrery {
namespace {

constexpr double kOverloads[] = {4.0, 8.0};
constexpr double kMinShareOfPeak = 0.9;
constexpr double kMaxRefusalMs = 50.0;
// Allocators and pools of threads grow for a while: the first flood warms them up.
constexpr double kMaxGrowthMb = 8.0;
constexpr absl::Duration kMaxTimeInClosedLoop = absl::Minutes(1);
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
  const int rounds = options.rounds > 0 ? options.rounds : 2;
  const absl::Duration duration =
      options.duration > absl::ZeroDuration() ? options.duration : absl::Seconds(20);
  Phase closed = {.name = "capacity",
                  .loads = {Requests()},
                  .warmup = std::min(kDeadline, duration),
                  .duration = std::min(kMaxTimeInClosedLoop, duration),
                  .cut_at_end = true};
  closed.loads[0].concurrency = options.concurrency > 0 ? options.concurrency : 64;
  ASSIGN_OR_RETURN(const PhaseResult* const alone, RunAndShow(bench, closed));
  const Seen capacity = Look(*alone);
  if (capacity.requests_per_s <= 0.0) return absl::UnavailableError("nothing was answered");

  ASSIGN_OR_RETURN(const std::unique_ptr<RefusingServer> refusing, RefusingServer::Start());
  Phase flood = {
      .loads = {Requests()}, .warmup = closed.warmup, .duration = duration, .cut_at_end = true};
  closed.loads.push_back(Requests());
  closed.loads[1].tenant = "surplus";
  closed.loads[1].address = refusing->address();
  double peak = capacity.goodput;
  std::vector<double> goodputs;
  std::map<double, std::vector<double>> of_most;  // by overload
  std::vector<double> refusal_ms;
  int64_t num_late = 0, num_otherwise = 0;
  std::vector<UsageSnapshot> usage;
  for (int round = 1; round <= rounds; ++round) {
    for (const double overload : kOverloads) {
      flood.name = absl::StrCat("round ", round, ", ", overload, " times of it");
      flood.loads[0].rate = overload * capacity.requests_per_s;
      closed.name = absl::StrCat(flood.name, ", the surplus elsewhere");
      closed.loads[1].rate = flood.loads[0].rate - capacity.requests_per_s;
      ASSIGN_OR_RETURN(const PhaseResult* const beside, RunAndShow(bench, closed));
      const double most = Look(*beside).goodput;
      ASSIGN_OR_RETURN(const PhaseResult* const flooded, RunAndShow(bench, flood));
      Seen seen = Look(*flooded);
      of_most[overload].push_back(seen.goodput / std::max(most, seen.goodput));
      peak = std::max({peak, most, seen.goodput});
      goodputs.push_back(seen.goodput);
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
  for (const double overload : kOverloads) {
    bench.Judge(absl::StrCat("goodput at ", overload,
                             " times over the most beside the same generator, median of ", rounds,
                             " rounds"),
                Median(of_most[overload]));
  }
  bench.Judge(absl::StrCat("p99 of ", refusal_ms.size(), " refusals, ms"),
              Summarize(refusal_ms).p99, AtMost(kMaxRefusalMs));
  bench.Judge("requests taken in, and answered too late", static_cast<double>(num_late));
  bench.Judge("requests that ended otherwise", static_cast<double>(num_otherwise), AtMost(0.0));
  JudgeMemory(bench, usage);
  return absl::OkStatus();
}

}  // namespace orrery
