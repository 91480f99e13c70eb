#include "tools/bench/serve_bench.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tools/bench/counters.h"
#include "tools/bench/draws.h"
#include "tools/bench/process_usage.h"

namespace orrery {
namespace {

// Enough for several hundred different ids, also of a large vocabulary.
constexpr int kPoolWords = 500;
// A router asks its members at least every 2.4 s (rpc/member_watch.h), and an answer takes time.
constexpr absl::Duration kViewAge = absl::Seconds(3);
constexpr absl::Duration kPollInterval = absl::Milliseconds(50);
// How long a phase waits for the one before it to end.
constexpr absl::Duration kSettlePatience = absl::Seconds(15);
constexpr int kBarWidth = 30;
// Odd, so that every part of a run has another seed; 2^64 over the golden ratio (Knuth, The Art of
// Computer Programming, 6.4).
constexpr uint64_t kSeedStep = 0x9e3779b97f4a7c15u;

}  // namespace

bool Target::Holds(double value) const {
  switch (kind) {
    case Kind::kNone:
      return true;
    case Kind::kAtLeast:
      return value >= limit;
    case Kind::kAtMost:
      return value <= limit;
  }
  return false;
}

std::string Target::ToString() const {
  if (kind == Kind::kNone) return "";
  return absl::StrFormat("%s %.4g", kind == Kind::kAtLeast ? "at least" : "at most", limit);
}

absl::StatusOr<std::unique_ptr<ServeBench>> ServeBench::Open(Options options) {
  std::unique_ptr<ServeBench> bench(new ServeBench(std::move(options)));
  OrreryClient& client = *bench->options_.client;
  ASSIGN_OR_RETURN(const v1::ListModelsResponse models, client.ListModels());
  const std::string& wanted = bench->options_.common.model();
  const auto model = std::find_if(
      models.model().begin(), models.model().end(),
      [&](const v1::ModelInfo& info) { return wanted.empty() || info.name() == wanted; });
  if (model == models.model().end()) {
    return absl::NotFoundError(absl::StrCat("the router has no model \"", wanted, "\""));
  }
  bench->result_.command = bench->options_.command;
  bench->result_.seed = bench->options_.seed;
  bench->result_.model = *model;
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse status, client.ClusterStatus());
  bench->result_.members.assign(status.member().begin(), status.member().end());
  RETURN_IF_ERROR(bench->MakeTokenPool());
  return bench;
}

absl::Status ServeBench::MakeTokenPool() {
  v1::TokenizeRequest request;
  request.set_model(options_.common.model());
  request.set_text(RandomText(options_.seed, kPoolWords));
  ASSIGN_OR_RETURN(token_pool_, options_.client->Tokenize(request));
  std::sort(token_pool_.begin(), token_pool_.end());
  token_pool_.erase(std::unique(token_pool_.begin(), token_pool_.end()), token_pool_.end());
  if (token_pool_.empty()) return absl::InternalError("the router gave no ids for a text");
  return absl::OkStatus();
}

absl::StatusOr<const PhaseResult*> ServeBench::Run(Phase phase) {
  for (const Load& load : phase.loads) {
    RETURN_IF_ERROR(CheckLoad(load, result_.model.max_context_tokens()));
  }
  phase.seed = SeedOf(result_.phases.size());
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse status_before, Settle(kSettlePatience));
  LoadGenerator generator({.address = options_.client->address(),
                           .tls = options_.tls,
                           .common = options_.common,
                           .token_pool = token_pool_,
                           .timeout = options_.timeout});
  const UsageSnapshot usage_before = TakeUsageSnapshot();
  absl::StatusOr<PhaseRecord> record = generator.Run(phase, [&] {
    ShowProgress(phase, absl::Now() - usage_before.time);
    return options_.should_stop && options_.should_stop();
  });
  const UsageDelta usage = UsageBetween(usage_before, TakeUsageSnapshot());
  options_.out->ClearProgress();
  RETURN_IF_ERROR(record.status());
  ASSIGN_OR_RETURN(const v1::ClusterStatusResponse status_after, Settle(kSettlePatience));

  PhaseResult& result = result_.phases.emplace_back();
  result.phase = std::move(phase);
  result.record = *std::move(record);
  for (const LoadRecord& load : result.record.loads) {
    result.figures.push_back(FiguresOf(load, result.record.window));
  }
  result.total = FiguresOf(result.record.loads, result.record.window);
  result.generator_cpu_cores = usage.own_cores;
  result.cluster_cpu_cores = usage.child_cores;
  result.counters = CounterChange(CountersOf(status_before), CountersOf(status_after));
  return &result;
}

uint64_t ServeBench::SeedOf(size_t part) const { return options_.seed + kSeedStep * part; }

void ServeBench::Judge(const std::string& what, double value, const Target& target) {
  result_.findings.push_back(
      {.what = what, .value = value, .target = target.ToString(), .held = target.Holds(value)});
}

absl::StatusOr<v1::ClusterStatusResponse> ServeBench::Settle(absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  absl::Time last_busy = absl::Now();
  while (true) {
    ASSIGN_OR_RETURN(v1::ClusterStatusResponse status, options_.client->ClusterStatus());
    const absl::Time now = absl::Now();
    if (NumOpen(status) > 0) last_busy = now;
    if (now - last_busy > kViewAge || now >= deadline) return status;
    if (options_.should_stop && options_.should_stop()) return absl::CancelledError("stopped");
    absl::SleepFor(kPollInterval);
  }
}

void ServeBench::ShowProgress(const Phase& phase, absl::Duration elapsed) {
  const int64_t total = absl::ToInt64Seconds(phase.warmup + phase.duration);
  if (phase.duration == absl::ZeroDuration()) {
    options_.out->ShowProgress(
        absl::StrFormat("%s  %.0f s", phase.name, absl::ToDoubleSeconds(elapsed)));
    return;
  }
  options_.out->ShowProgress(ProgressLine({.label = phase.name,
                                           .done = std::min(absl::ToInt64Seconds(elapsed), total),
                                           .total = total,
                                           .elapsed = absl::ZeroDuration(),
                                           .unit = "s"},
                                          kBarWidth));
}

}  // namespace orrery
