#include "tools/chaos/scenarios.h"

#include <algorithm>
#include <csignal>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tools/chaos/placement_scenarios.h"

namespace orrery {
namespace {

// Of points that are not passed often.
constexpr int kFewPassings = 10;
constexpr int kFlipOneIn = 1000;
constexpr absl::Duration kLeastStop = absl::Milliseconds(200);
constexpr absl::Duration kLongestStop = absl::Seconds(10);
// Until a shard that stands still is asked for nothing that another one holds.
constexpr absl::Duration kUntilGivenUp = absl::Milliseconds(1500);
// How long messages are counted, at least.
constexpr absl::Duration kLeastMeasured = absl::Seconds(1);
constexpr absl::Duration kLeastNetworkFault = absl::Milliseconds(100);
constexpr absl::Duration kLongestNetworkFault = absl::Seconds(3);
// For some twenty experts of the bundled model, 74 KB each.
constexpr int64_t kRoomForCopies = 1'500'000;
// For all of them.
constexpr int64_t kRoomForAll = 10'000'000;
constexpr int kShortHedgeMs = 500;

std::string Seconds(absl::Duration duration) {
  return absl::StrFormat("%.1f s", absl::ToDoubleSeconds(duration));
}

absl::Status KillAndRestart(Victim& victim, const std::string& name) {
  RETURN_IF_ERROR(victim.Kill(name));
  return victim.Restart(name);
}

// At a moment that nobody chose. One in four dies again while it comes back, or another one does.
absl::StatusOr<std::string> KillOne(Victim& victim, internal::Role role) {
  const std::string name = victim.AnyOf(role);
  RETURN_IF_ERROR(victim.LetTokensPass());
  RETURN_IF_ERROR(KillAndRestart(victim, name));
  if (victim.Below(4) != 0) return absl::StrCat(name, " killed");
  RETURN_IF_ERROR(
      victim.LetTimePass(victim.Between(absl::Milliseconds(1), absl::Milliseconds(500))));
  const std::string second = victim.AnyOf(role);
  RETURN_IF_ERROR(KillAndRestart(victim, second));
  return absl::StrCat(name, " killed, and ", second, " while it came back");
}

// At a named point. It is killed first, because a process learns of its point when it starts.
absl::StatusOr<std::string> DieAt(Victim& victim, internal::Role role, FaultPoint point,
                                  int last_passing = 100) {
  const std::string name = victim.AnyOf(role);
  RETURN_IF_ERROR(victim.LetTokensPass());
  RETURN_IF_ERROR(victim.Kill(name));
  RETURN_IF_ERROR(victim.RestartToDie(name, point, last_passing));
  RETURN_IF_ERROR(victim.AwaitDeath(name));
  RETURN_IF_ERROR(victim.Restart(name));
  return absl::StrCat(name, " killed, and again ", FaultPointName(point));
}

// Whoever takes over from a dead rank dies of it, once.
absl::StatusOr<std::string> DieInReplay(Victim& victim) {
  const std::string first = victim.AnyOf(internal::ROLE_ATTENTION);
  for (const std::string& name : victim.NamesOf(internal::ROLE_ATTENTION)) {
    if (name == first) continue;
    RETURN_IF_ERROR(victim.Kill(name));
    RETURN_IF_ERROR(victim.RestartToDie(name, FaultPoint::kInReplay, kFewPassings));
  }
  RETURN_IF_ERROR(victim.AwaitReady());
  RETURN_IF_ERROR(victim.LetTokensPass());
  RETURN_IF_ERROR(KillAndRestart(victim, first));
  for (const std::string& name : victim.NamesOf(internal::ROLE_ATTENTION)) {
    if (name == first) continue;
    RETURN_IF_ERROR(victim.AwaitDeath(name));
    RETURN_IF_ERROR(victim.Restart(name));
  }
  return absl::StrCat(first, " killed, and who replayed its answers in_replay");
}

absl::StatusOr<std::string> KillShard(Victim& victim) {
  switch (victim.Below(6)) {
    case 0:
      return DieAt(victim, internal::ROLE_EXPERT, FaultPoint::kAfterReceive);
    case 1:
      return DieAt(victim, internal::ROLE_EXPERT, FaultPoint::kBeforeReply);
    case 2:
      return DieAt(victim, internal::ROLE_EXPERT, FaultPoint::kWhileLoading, kFewPassings);
    default:
      return KillOne(victim, internal::ROLE_EXPERT);
  }
}

absl::StatusOr<std::string> KillRank(Victim& victim) {
  switch (victim.Below(8)) {
    case 0:
      return DieAt(victim, internal::ROLE_ATTENTION, FaultPoint::kAfterDispatch);
    case 1:
      return DieAt(victim, internal::ROLE_ATTENTION, FaultPoint::kBeforeCombine);
    case 2:
      return DieAt(victim, internal::ROLE_ATTENTION, FaultPoint::kBeforeCommit);
    case 3:
    case 4:
      return DieAt(victim, internal::ROLE_ATTENTION, FaultPoint::kInVerification);
    case 5:
    case 6:
      return DieInReplay(victim);
    default:
      return KillOne(victim, internal::ROLE_ATTENTION);
  }
}

absl::StatusOr<std::string> KillRouter(Victim& victim) {
  return KillOne(victim, internal::ROLE_ROUTER);
}

absl::StatusOr<std::string> StopShard(Victim& victim) {
  const std::string name = victim.AnyOf(internal::ROLE_EXPERT);
  const absl::Duration duration = victim.Between(kLeastStop, kLongestStop);
  RETURN_IF_ERROR(victim.LetTokensPass());
  RETURN_IF_ERROR(victim.Signal(name, SIGSTOP));
  const absl::Status passed = victim.LetTimePass(duration);
  RETURN_IF_ERROR(victim.Signal(name, SIGCONT));
  RETURN_IF_ERROR(passed);
  return absl::StrCat(name, " stopped for ", Seconds(duration));
}

// Messages of all streams, per second.
absl::StatusOr<double> Pace(Victim& victim, absl::Duration duration) {
  const int64_t before = victim.streams().num_messages();
  const absl::Time begin = absl::Now();
  RETURN_IF_ERROR(victim.LetTimePass(duration));
  return static_cast<double>(victim.streams().num_messages() - before) /
         absl::ToDoubleSeconds(absl::Now() - begin);
}

// The same beside another holder of all that it holds: how streams get along once it has been given up.
absl::StatusOr<std::string> StopHeldShard(Victim& victim) {
  const std::string name = victim.AnyOf(internal::ROLE_EXPERT);
  const absl::Duration duration = victim.Between(kLeastStop, kLongestStop);
  RETURN_IF_ERROR(victim.LetTokensPass());
  ASSIGN_OR_RETURN(const double before, Pace(victim, kLeastMeasured));
  RETURN_IF_ERROR(victim.Signal(name, SIGSTOP));
  const absl::Status given_up = victim.LetTimePass(std::min(duration, kUntilGivenUp));
  const absl::StatusOr<double> beside =
      given_up.ok() ? Pace(victim, duration - std::min(duration, kUntilGivenUp)) : given_up;
  RETURN_IF_ERROR(victim.Signal(name, SIGCONT));
  RETURN_IF_ERROR(beside.status());
  std::string what = absl::StrCat(name, " stopped for ", Seconds(duration));
  if (duration < kUntilGivenUp + kLeastMeasured) return what;  // too short to tell
  const double slowdown = before / std::max(*beside, 1e-3);
  victim.NoteSlowdown(slowdown);
  absl::StrAppendFormat(&what, ", in the end %.2f times as slow as before", slowdown);
  return what;
}

struct NetworkFault {
  const char* name;
  ProxyFault fault;
  bool cuts = false;   // all connections, as it begins
  bool flaps = false;  // comes and goes
};

const std::vector<NetworkFault>& NetworkFaults() {
  static const auto* const faults = new std::vector<NetworkFault>{
      {"partition", {.drop_to_target = true, .drop_to_client = true}},
      {"nothing gets there", {.drop_to_target = true}},
      {"nothing comes back", {.drop_to_client = true}},
      {"partition that flaps", {.drop_to_target = true, .drop_to_client = true}, false, true},
      {"connections cut and refused", {.refuse = true}, true},
      {"1 % of the pieces cut", {.cut_per_piece = 0.01}},
      {"50 ms more each way", {.delay = absl::Milliseconds(50)}},
      {"a bit flipped in 2 % of the pieces", {.flip_per_piece = 0.02}},
  };
  return *faults;
}

absl::Status Apply(Victim& victim, FaultProxy& proxy, const NetworkFault& fault,
                   absl::Duration duration) {
  const int num_times = fault.flaps ? 5 : 1;
  for (int i = 0; i < num_times; ++i) {
    ProxyFault now = fault.fault;
    now.seed = static_cast<uint64_t>(victim.Below(1 << 30));
    proxy.Set(now);
    if (fault.cuts) proxy.CutAll();
    const absl::Status passed = victim.LetTimePass(duration / (2 * num_times - 1));
    proxy.Set({});
    RETURN_IF_ERROR(passed);
    if (i + 1 < num_times) RETURN_IF_ERROR(victim.LetTimePass(duration / (2 * num_times - 1)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> HarmNetwork(Victim& victim) {
  const int shard = victim.Below(static_cast<int>(victim.proxies().size()));
  const NetworkFault& fault =
      NetworkFaults()[victim.Below(static_cast<int>(NetworkFaults().size()))];
  const absl::Duration duration = victim.Between(kLeastNetworkFault, kLongestNetworkFault);
  RETURN_IF_ERROR(victim.LetTokensPass());
  RETURN_IF_ERROR(Apply(victim, *victim.proxies()[shard], fault, duration));
  return absl::StrCat("expert-", shard, ": ", fault.name, ", ", Seconds(duration));
}

absl::StatusOr<std::string> RestartAll(Victim& victim) {
  std::vector<std::string> names;
  for (const internal::Role role :
       {internal::ROLE_EXPERT, internal::ROLE_ATTENTION, internal::ROLE_ROUTER}) {
    for (const std::string& name : victim.NamesOf(role)) {
      RETURN_IF_ERROR(victim.LetTokensPass());
      RETURN_IF_ERROR(victim.Drain(name));
      RETURN_IF_ERROR(victim.Restart(name));
      RETURN_IF_ERROR(victim.AwaitReady());
      names.push_back(name);
    }
  }
  return absl::StrCat("restarted ", absl::StrJoin(names, ", "));
}

// Of a thousand results, one has a bit flipped, until every rank has found out. Then another process takes its
// place.
absl::StatusOr<std::string> FlipBits(Victim& victim) {
  const std::string name = victim.AnyOf(internal::ROLE_EXPERT);
  RETURN_IF_ERROR(victim.LetTokensPass());
  RETURN_IF_ERROR(victim.Kill(name));
  RETURN_IF_ERROR(victim.RestartToFlip(name, kFlipOneIn));
  ASSIGN_OR_RETURN(
      const absl::Duration after,
      victim.AwaitProblem(internal::ROLE_ATTENTION, absl::StrCat(name, ": quarantined")));
  RETURN_IF_ERROR(KillAndRestart(victim, name));
  return absl::StrCat(name, " flipped a bit in one of ", kFlipOneIn,
                      " results; quarantined by every rank after ", Seconds(after));
}

// A fault of any other kind.
absl::StatusOr<std::string> HarmAnyhow(Victim& victim) {
  constexpr absl::StatusOr<std::string> (*kHarms[])(Victim&) = {
      KillShard, KillRank, KillRouter, StopShard, HarmNetwork, FlipBits, RestartAll};
  return kHarms[victim.Below(std::size(kHarms))](victim);
}

}  // namespace

const std::vector<ChaosScenario>& ChaosScenarios() {
  static const auto* const scenarios = new std::vector<ChaosScenario>{
      {.name = "kill_shard",
       .summary = "kill -9 of an expert shard, one in four times a second one meanwhile",
       .num_shards = 4,
       .harm = KillShard},
      {.name = "kill_rank",
       .summary = "kill -9 of an attention rank, which drafts",
       .num_draft_tokens = 1,
       .harm = KillRank},
      {.name = "kill_router",
       .summary = "kill -9 of a router: the client library resumes at another one",
       .num_routers = 2,
       .harm = KillRouter},
      {.name = "stop_shard",
       .summary = "SIGSTOP of an expert shard for 0.2 to 10 s",
       .num_shards = 4,
       .harm = StopShard},
      {.name = "kill_held_shard",
       .summary = "as kill_shard, while a spare shard holds every expert too: judges the pauses",
       .num_spare_shards = 1,
       .heir_bytes = kRoomForAll,
       .fixed_placement = true,
       .max_hedge_ms = kShortHedgeMs,
       .has_second_holders = true,
       .harm = KillShard},
      {.name = "stop_held_shard",
       .summary = "as stop_shard, while a spare shard holds every expert too: judges the pauses",
       .num_spare_shards = 1,
       .heir_bytes = kRoomForAll,
       .fixed_placement = true,
       .max_hedge_ms = kShortHedgeMs,
       .has_second_holders = true,
       .harm = StopHeldShard},
      {.name = "network",
       .summary =
           "between ranks and a shard: partitions, one way too, flapping, cuts, delay, wrong bits",
       .has_proxies = true,
       .harm = HarmNetwork},
      {.name = "rolling_restart",
       .summary = "every process is asked to stop, and started again, one after the other",
       .num_routers = 2,
       .harm = RestartAll},
      {.name = "bit_flip",
       .summary = "a shard that flips bits, with every visit asked for twice: found, and no answer "
                  "differs",
       .audit_one_in = 1,
       .harm = FlipBits},
      {.name = "rare_audit",
       .summary =
           "the same with one visit in 100 asked for twice: found, and how many answers differ",
       .audit_one_in = 100,
       .may_differ = true,
       .harm = FlipBits},
      {.name = "soak",
       .summary = "a fault of any kind each minute, --count=60 of them an hour: does anything grow",
       .num_routers = 2,
       .num_ranks = 3,
       .num_shards = 4,
       .num_draft_tokens = 1,
       .audit_one_in = 1,
       .every = absl::Minutes(1),
       .busy_share = 0.7,
       .has_proxies = true,
       .has_bystanders = true,
       .harm = HarmAnyhow},
      {.name = "placements",
       .summary =
           "copies of experts at random every 2 s, while a spare shard leaves and comes back",
       .num_spare_shards = 2,
       .fixed_placement = true,
       .harm = PlaceAtRandom},
      {.name = "zipf",
       .summary =
           "few questions again and again, without the balancer and with it, which must even "
           "out what falls on the shards",
       .num_routers = 2,
       .num_shards = 6,
       .heir_bytes = kRoomForCopies,
       .balance_ms = 1000,
       .num_questions = 6,
       .asks_by_zipf = true,
       .harm = BalanceSkewedLoad},
  };
  return *scenarios;
}

absl::StatusOr<ChaosScenario> FindChaosScenario(const std::string& name) {
  std::vector<std::string> known;
  for (const ChaosScenario& scenario : ChaosScenarios()) {
    if (scenario.name == name) return scenario;
    known.push_back(scenario.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no chaos scenario \"", name,
                                                 "\"; there are ", absl::StrJoin(known, ", ")));
}

}  // namespace orrery
