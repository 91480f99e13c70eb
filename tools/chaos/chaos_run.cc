#include "tools/chaos/chaos_run.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "tools/bench/summary.h"
#include "tools/chaos/placement_scenarios.h"

namespace orrery {
namespace {

// 0 for none.
double MedianSeconds(std::vector<absl::Duration> durations) {
  if (durations.empty()) return 0.0;
  std::sort(durations.begin(), durations.end());
  return absl::ToDoubleSeconds(durations[durations.size() / 2]);
}

double LongestSeconds(const std::vector<absl::Duration>& durations) {
  if (durations.empty()) return 0.0;
  return absl::ToDoubleSeconds(*std::max_element(durations.begin(), durations.end()));
}

// Beyond the deadline at which another holder is asked.
constexpr absl::Duration kBesideHedge = absl::Seconds(1);
constexpr double kMaxSlowdown = 1.2;
constexpr double kMaxMibPerHour = 1.0;
constexpr double kMaxDescriptorsPerHour = 1.0;
// A buffer that grows once, by half a MiB, is a slope of any size if one looks for a short time only.
constexpr absl::Duration kLeastSeen = absl::Minutes(20);

// Of the curve in the JSON.
constexpr size_t kSamplesPerPoint = 12;

bool IsJudged(const Growth::Slope& slope) { return slope.longest() >= kLeastSeen; }

bool IsFlat(const Growth::Slope& slope) {
  return slope.mib_per_hour <= kMaxMibPerHour &&
         slope.descriptors_per_hour <= kMaxDescriptorsPerHour;
}

absl::Status RestUntil(absl::Time end, const ChaosOptions& options, Victim& victim,
                       Growth& growth) {
  while (absl::Now() < end) {
    growth.Add(TakeUsageSnapshot());
    RETURN_IF_ERROR(victim.LetTimePass(std::min(options.look_every, end - absl::Now())));
  }
  return absl::OkStatus();
}

}  // namespace

bool ChaosReport::is_flat() const {
  return std::all_of(growth.begin(), growth.end(), [](const auto& member) {
    return !IsJudged(member.second) || IsFlat(member.second);
  });
}

int ChaosReport::num_long_pauses() const {
  return static_cast<int>(std::count_if(
      pauses.begin(), pauses.end(), [this](absl::Duration pause) { return pause > pause_limit; }));
}

double ChaosReport::median_slowdown() const { return Median(slowdowns); }

absl::StatusOr<ChaosReport> RunChaos(const ChaosOptions& options) {
  Victim::Options victim_options = options.victim;
  victim_options.topology.num_routers = options.scenario.num_routers;
  victim_options.topology.num_ranks = options.scenario.num_ranks;
  victim_options.topology.num_shards = options.scenario.num_shards;
  victim_options.topology.num_spare_shards = options.scenario.num_spare_shards;
  internal::Limits& limits = victim_options.topology.limits;
  limits.set_num_draft_tokens(options.scenario.num_draft_tokens);
  limits.set_audit_one_in(options.scenario.audit_one_in);
  limits.set_heir_bytes(options.scenario.heir_bytes);
  limits.set_balance_ms(options.scenario.balance_ms);
  limits.set_fixed_placement(options.scenario.fixed_placement);
  limits.set_max_hedge_ms(options.scenario.max_hedge_ms);
  victim_options.num_questions = options.scenario.num_questions;
  victim_options.asks_by_zipf = options.scenario.asks_by_zipf;
  victim_options.busy_share = options.scenario.busy_share;
  victim_options.has_proxies = options.scenario.has_proxies;
  victim_options.has_bystanders = options.scenario.has_bystanders;
  ASSIGN_OR_RETURN(const std::unique_ptr<Victim> victim, Victim::Start(victim_options));
  ChaosReport report;
  report.scenario = options.scenario.name;
  report.seed = victim_options.seed;
  report.may_differ = options.scenario.may_differ;
  if (options.scenario.has_second_holders) {
    RETURN_IF_ERROR(HoldEverything(*victim));
    report.pause_limit =
        absl::Milliseconds(victim->cluster().limits().max_hedge_ms()) + kBesideHedge;
    report.slowdown_limit = kMaxSlowdown;
  }
  Growth growth(options.warm_up);
  for (int fault = 0; fault < options.num_faults; ++fault) {
    const absl::Time next = absl::Now() + options.scenario.every;
    victim->streams().TakeLongestPause();
    ASSIGN_OR_RETURN(const std::string what, options.scenario.harm(*victim));
    RETURN_IF_ERROR(victim->AwaitRecovery());
    report.pauses.push_back(victim->streams().TakeLongestPause());
    if (options.on_fault) options.on_fault(fault, what, report.pauses.back());
    RETURN_IF_ERROR(RestUntil(next, options, *victim, growth));
  }
  report.looks_at_growth = options.scenario.every > absl::ZeroDuration();
  report.growth = growth.Slopes();
  report.slowdowns = victim->slowdowns();
  report.streams = victim->Stop();
  report.num_not_logged_once = victim->CountNotLoggedOnce(report.streams.request_ids);
  return report;
}

std::string ReportText(const ChaosReport& report) {
  std::string text = absl::StrFormat(
      "%s, seed %d: %d faults, %d answers; %d errors, %d differ from the undisturbed run\n"
      "longest pause of a stream: median %.2f s, longest %.2f s\n",
      report.scenario, report.seed, report.pauses.size(), report.streams.num_answers,
      report.streams.num_errors, report.streams.num_differing, MedianSeconds(report.pauses),
      LongestSeconds(report.pauses));
  if (report.pause_limit < absl::InfiniteDuration()) {
    absl::StrAppendFormat(&text, "%d pauses longer than %.2f s, which is what hedges allow\n",
                          report.num_long_pauses(), absl::ToDoubleSeconds(report.pause_limit));
  }
  if (!report.slowdowns.empty()) {
    absl::StrAppendFormat(
        &text,
        "once a shard had been given up, streams were %.2f times as slow as before, "
        "median of %d faults, at most %.1f\n",
        report.median_slowdown(), report.slowdowns.size(), report.slowdown_limit);
  }
  if (report.num_not_logged_once > 0) {
    absl::StrAppendFormat(&text, "%d answers whose end is not exactly one line of a router's log\n",
                          report.num_not_logged_once);
  }
  for (const auto& [member, slope] : report.growth) {
    absl::StrAppendFormat(&text, "%s %s: %+.2f MiB/h, %+.2f descriptors/h, seen for %.1f min%s\n",
                          IsFlat(slope) || !IsJudged(slope) ? " " : "!", member, slope.mib_per_hour,
                          slope.descriptors_per_hour, absl::ToDoubleMinutes(slope.seen),
                          IsJudged(slope) ? "" : ", in lives too short to be judged");
  }
  const bool is_any_judged =
      std::any_of(report.growth.begin(), report.growth.end(),
                  [](const auto& member) { return IsJudged(member.second); });
  if (report.looks_at_growth && !is_any_judged) {
    absl::StrAppend(&text, "nobody lived long enough for its growth to be judged\n");
  }
  for (const std::string& problem : report.streams.problems) {
    absl::StrAppend(&text, "  ", problem, "\n");
  }
  return text;
}

std::string ReportJson(const ChaosReport& report) {
  nlohmann::json json = {{"scenario", report.scenario},
                         {"seed", report.seed},
                         {"faults", report.pauses.size()},
                         {"answers", report.streams.num_answers},
                         {"errors", report.streams.num_errors},
                         {"differing", report.streams.num_differing},
                         {"not_logged_once", report.num_not_logged_once},
                         {"problems", report.streams.problems},
                         {"pauses_s", nlohmann::json::array()}};
  if (report.pause_limit < absl::InfiniteDuration()) {
    json["long_pauses"] = report.num_long_pauses();
    json["pause_limit_s"] = absl::ToDoubleSeconds(report.pause_limit);
  }
  if (!report.slowdowns.empty()) json["slowdowns"] = report.slowdowns;
  for (const absl::Duration pause : report.pauses) {
    json["pauses_s"].push_back(absl::ToDoubleSeconds(pause));
  }
  for (const auto& [member, slope] : report.growth) {
    json["growth"][member] = {{"mib_per_hour", slope.mib_per_hour},
                              {"descriptors_per_hour", slope.descriptors_per_hour},
                              {"is_judged", IsJudged(slope)},
                              {"seen_s", absl::ToDoubleSeconds(slope.seen)}};
    // About once a minute.
    for (size_t i = 0; i < slope.longest_life.size(); i += kSamplesPerPoint) {
      const Growth::Sample& sample = slope.longest_life[i];
      json["growth"][member]["longest_life"].push_back(
          {{"hours", sample.hours}, {"mib", sample.mib}, {"descriptors", sample.descriptors}});
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace orrery
