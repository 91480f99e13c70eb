#include "tests/simulation/storms.h"

#include <algorithm>
#include <map>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/simulation/cluster_world.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/recovery_world.h"
#include "tests/simulation/scheduler_world.h"
#include "tests/simulation/ticket_world.h"

namespace orrery {
namespace {

// One storm of so many is large, so that what takes long to build up happens too: reserves that run out,
// credit at its limit, pauses that have doubled often. In the others a few faults meet within a few hundred
// events: a second has room for thousands, and most ways in which two faults can meet need no more.
constexpr uint64_t kLargeOneOf = 50;

// Not the distributions of the standard library, which differ between implementations.
class Chance {
 public:
  Chance(uint64_t seed, bool is_large) : engine_(seed), is_large_(is_large) {}
  uint64_t Seed() { return engine_(); }
  int Below(int limit) { return static_cast<int>(engine_() % static_cast<uint64_t>(limit)); }
  // Below one limit in a small storm, below the other in a large one.
  int Below(int small, int large) { return Below(is_large_ ? large : small); }
  // In half of all storms it does not happen at all.
  double UpTo(double most) { return Below(2) == 0 ? 0.0 : most * Below(1000) / 1000.0; }
  double UpTo(double small, double large) { return UpTo(is_large_ ? large : small); }

 private:
  std::mt19937_64 engine_;
  const bool is_large_;
};

using Violations = std::vector<std::string>;
using Happened = std::map<std::string, int64_t>;

Violations TicketStorm(Chance& chance, Happened& happened) {
  TicketWorldSpec spec;
  spec.num_shards = 1 + chance.Below(3, 5);
  spec.num_tickets = 3 + chance.Below(10, 80);
  spec.max_open = 1 + chance.Below(4);
  spec.faults.drop = chance.UpTo(0.1);
  spec.faults.duplicate = chance.UpTo(0.2);
  spec.faults.max_delay = absl::Microseconds(50 + chance.Below(8000));
  spec.crash = chance.UpTo(0.1, 0.03);
  spec.abandon = chance.UpTo(0.3);
  spec.patience = absl::Milliseconds(1 + chance.Below(20));
  EventLoop loop(chance.Seed());
  TicketWorld world(loop, spec);
  world.Run();
  happened["tickets"] += world.num_closed();
  happened["tickets given up"] += world.num_abandoned();
  happened["frames dropped by shards"] += world.num_dropped();
  happened["replies late"] += world.counters().late;
  happened["replies repeated"] += world.counters().duplicate;
  const auto lost = world.final_states().find(TicketTable::FrameState::kLost);
  if (lost != world.final_states().end()) happened["frames lost"] += lost->second;
  return world.violations();
}

Violations ClusterStorm(Chance& chance, Happened& happened) {
  ClusterWorldSpec spec;
  spec.num_ranks = 1 + chance.Below(3, 4);
  spec.num_requests = 3 + chance.Below(10, 80);
  spec.max_waiting_requests = 1 + chance.Below(8);
  spec.scheduler.block_tokens = 1 << chance.Below(4);
  spec.scheduler.max_running = 1 + chance.Below(6);
  spec.scheduler.max_prefill_rows = 1 + chance.Below(12);
  spec.scheduler.max_step_rows = spec.scheduler.max_running + spec.scheduler.max_prefill_rows;
  spec.max_prompt_tokens = 1 + chance.Below(40, 80);
  spec.max_answer_tokens = 1 + chance.Below(20, 30);
  // What the longest sequence needs, and little more.
  spec.num_blocks =
      (spec.max_prompt_tokens + spec.max_answer_tokens) / spec.scheduler.block_tokens + 1 +
      chance.Below(6, 12);
  spec.arrival_gap = absl::Microseconds(200 + chance.Below(2'000, 20'000));
  spec.crash_per_step = chance.UpTo(0.1, 0.02);
  spec.cancel_per_token = chance.UpTo(0.1, 0.05);
  spec.router_crash_per_token = chance.UpTo(0.02, 0.002);
  spec.max_replays = 1 + chance.Below(8);
  EventLoop loop(chance.Seed());
  ClusterWorld world(loop, spec);
  world.Run();
  happened["requests"] += spec.num_requests;
  happened["rank crashes"] += world.num_crashes();
  happened["router crashes"] += world.num_router_crashes();
  happened["requests replayed"] += world.num_replays();
  happened["requests resumed"] += world.num_resumed();
  happened["requests set back"] += world.num_preemptions();
  for (const auto& [code, count] : world.endings()) {
    happened[absl::StrCat("requests ended ", absl::StatusCodeToString(code))] += count;
  }
  return world.violations();
}

// Shards crash, stand still, drain and come back, one at a time.
Violations RecoveryStorm(Chance& chance, Happened& happened) {
  RecoveryWorldSpec spec;
  spec.num_shards = 2 + chance.Below(3, 4);
  spec.num_experts = 2 + 2 * spec.num_shards + chance.Below(8, 40);
  spec.num_moe_layers = 1 + chance.Below(2, 4);
  spec.topk = 1 + chance.Below(4, 6);
  spec.num_layers = 20 + chance.Below(40, 400);
  // Troubles last seconds: many layers meet the same one, or few of them many.
  spec.max_pause = absl::Milliseconds(2 + chance.Below(2) * chance.Below(300));
  spec.is_doubled = chance.Below(2) == 1;
  spec.trouble = chance.UpTo(0.4, 0.1);
  EventLoop loop(chance.Seed());
  RecoveryWorld world(loop, spec);
  world.Run();
  happened["layers"] += spec.num_layers;
  happened["shard troubles"] += world.num_troubles();
  happened["shards asked beside a late one"] += world.num_hedges();
  happened["experts loaded by heirs"] += world.num_loaded();
  return world.violations();
}

WorldRequest DrawRequest(Chance& chance, int num_tenants, int longest) {
  WorldRequest request{.tenant = chance.Below(num_tenants), .priority = chance.Below(3)};
  request.num_prompt_tokens =
      1 + chance.Below(chance.Below(2) == 1 ? longest - 1 : std::min(longest - 1, 40));
  request.num_answer_tokens = 1 + chance.Below(longest - request.num_prompt_tokens);
  request.prefix = chance.Below(3);
  request.num_prefix_tokens = std::min(request.num_prompt_tokens, chance.Below(longest));
  return request;
}

// Tenants, priorities, drafts, shared prefixes, caches that hold little more than the longest sequence,
// budgets that answers fill: everything finishes, and no slower than one by one, but for what is set back and
// computed again.
Violations SchedulerStorm(Chance& chance, Happened& happened) {
  SchedulerWorld::Spec spec;
  spec.seed = chance.Seed();
  spec.max_drafts = chance.Below(4);
  spec.keep_prefixes = chance.Below(2) == 1;
  spec.num_tenants = 1 + chance.Below(5);
  spec.scheduler.lookahead_tokens = spec.max_drafts;
  spec.scheduler.block_tokens = chance.Below(2) == 1 ? 16 : 4 << chance.Below(2, 5);
  spec.scheduler.max_running = 1 + chance.Below(8, 24);
  spec.scheduler.max_step_rows =
      spec.scheduler.max_running * (1 + spec.max_drafts) + chance.Below(30, 100);
  spec.scheduler.max_prefill_rows = 1 + chance.Below(30, 80);
  const int longest = 10 + chance.Below(60, 1500);
  spec.num_blocks =
      (longest + spec.max_drafts) / spec.scheduler.block_tokens + 1 + chance.Below(12, 60);
  SchedulerWorld world(spec);
  int64_t num_steps_alone = 0;
  for (int left = 2 + chance.Below(8, 24); left > 0; --left) {
    const WorldRequest request = DrawRequest(chance, spec.num_tenants, longest);
    world.Submit(request);
    num_steps_alone +=
        request.num_answer_tokens + request.num_prompt_tokens / spec.scheduler.max_step_rows + 1;
    if (chance.Below(2) == 1) {
      for (int steps = chance.Below(10, 30); steps > 0; --steps) world.Step();
    }
  }
  // Each step gives a running answer its token, or all its rows to prompts.
  const bool is_idle =
      world.RunUntilIdle(num_steps_alone) || world.RunUntilIdle(world.num_steps_again());
  happened["steps"] += world.num_steps();
  happened["sequences set back"] += world.num_preempted();
  happened["sequences displaced"] += world.num_displaced();
  Violations violations;
  if (!is_idle) {
    violations.push_back(absl::StrCat("not idle after ", num_steps_alone,
                                      " steps, which the requests take one by one, and those "
                                      "for what was set back"));
  }
  const auto& more = world.violations();
  violations.insert(violations.end(), more.begin(), more.end());
  return violations;
}

}  // namespace

StormReport RunStorm(uint64_t seed) {
  struct World {
    const char* name;
    Violations (*run)(Chance& chance, Happened& happened);
  };
  StormReport report;
  for (const World& world :
       {World{"tickets", TicketStorm}, World{"cluster", ClusterStorm},
        World{"scheduler", SchedulerStorm}, World{"recovery", RecoveryStorm}}) {
    // Of its own, so that a change to one world leaves the storms of the others as they were.
    Chance chance(seed * 1000 + world.name[0], /*is_large=*/seed % kLargeOneOf == 0);
    for (const std::string& violation : world.run(chance, report.happened)) {
      report.broken.push_back(absl::StrCat(world.name, ": ", violation));
    }
  }
  return report;
}

}  // namespace orrery
