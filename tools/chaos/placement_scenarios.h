// The scenarios in which copies of experts move (placement/balancer.h). For the table of scenarios.h.
#ifndef ORRERY_TOOLS_CHAOS_PLACEMENT_SCENARIOS_H_
#define ORRERY_TOOLS_CHAOS_PLACEMENT_SCENARIOS_H_

#include <string>

#include "base/status.h"
#include "tools/chaos/victim.h"

namespace orrery {

// Every shard is told to hold copies of experts at random, again and again, while a spare shard leaves and comes
// back.
absl::StatusOr<std::string> PlaceAtRandom(Victim& victim);

// Every spare shard is told to hold a copy of every expert, and has them when this returns, and the ranks know.
absl::Status HoldEverything(Victim& victim);

// Measures how unevenly the shards are used without the balancer, and with it. FAILED_PRECONDITION if the imbalance
// does not fall by kLeastFall.
inline constexpr double kLeastFall = 0.3;
absl::StatusOr<std::string> BalanceSkewedLoad(Victim& victim);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_PLACEMENT_SCENARIOS_H_
