// What can be done to a cluster under load, one fault at a time.
//
//   ASSIGN_OR_RETURN(const ChaosScenario scenario, FindChaosScenario("kill_shard"));
//   ASSIGN_OR_RETURN(const std::string what, scenario.harm(victim));   // "expert-2 killed"
//
// A scenario's fault begins and ends within `harm`: when it returns, every member runs again, and nothing is
// between them. The cluster need not be ready yet.
#ifndef ORRERY_TOOLS_CHAOS_SCENARIOS_H_
#define ORRERY_TOOLS_CHAOS_SCENARIOS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "tools/chaos/victim.h"

namespace orrery {

struct ChaosScenario {
  std::string name;
  std::string summary;
  int num_routers = 1;
  int num_ranks = 2;
  int num_shards = 3;
  int num_spare_shards = 0;
  int num_draft_tokens = 0;
  // limits.audit_one_in; 0: as it comes.
  int audit_one_in = 0;
  // A fault begins every so long; zero: as soon as the cluster has recovered from the one before.
  absl::Duration every = absl::ZeroDuration();
  // Of its time, how much a client spends with a request open.
  double busy_share = 1.0;
  // Wrong results may reach answers: how many is what it measures.
  bool may_differ = false;
  // See proto/cluster.proto.
  int64_t heir_bytes = 0;
  int balance_ms = 0;
  bool fixed_placement = false;
  int num_questions = 24;
  int max_hedge_ms = 0;
  // A spare shard holds a copy of every expert, so that a shard that fails is nobody's only holder.
  bool has_second_holders = false;
  // Question k is asked about 1 / k times as often as the first.
  bool asks_by_zipf = false;
  // Whether ranks reach their shards through proxies.
  bool has_proxies = false;
  // See Victim::Options.
  bool has_bystanders = false;
  // Does it, and says what it did.
  absl::StatusOr<std::string> (*harm)(Victim& victim) = nullptr;
};

const std::vector<ChaosScenario>& ChaosScenarios();
// INVALID_ARGUMENT with the known ones.
absl::StatusOr<ChaosScenario> FindChaosScenario(const std::string& name);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_SCENARIOS_H_
