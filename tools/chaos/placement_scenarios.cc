#include "tools/chaos/placement_scenarios.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "tools/chaos/shard_calls.h"

namespace orrery {
namespace {

constexpr absl::Duration kPlacementTime = absl::Seconds(2);
// Long enough for some hundred rows for each shard and layer.
constexpr absl::Duration kCountTime = absl::Seconds(8);
constexpr absl::Duration kLookInterval = absl::Milliseconds(100);
constexpr int kNumLooks = 600;
// Until ranks know what a shard holds: they ask one that said nothing new every 2.4 s at the latest (WatchOptions).
constexpr absl::Duration kNewsTime = absl::Seconds(3);

// Copies for one shard at random: as many as it may hold, or fewer.
absl::StatusOr<std::vector<ExpertKey>> DrawCopies(Victim& victim, int shard) {
  const internal::ClusterFile& cluster = victim.cluster();
  const std::string& address = cluster.expert(shard).address();
  ASSIGN_OR_RETURN(const internal::MemberDescription description, DescribeShard(address));
  ASSIGN_OR_RETURN(const internal::RowCounts counts, CountRows(address));
  const int num_experts = counts.layer(0).rows_size();
  const ExpertRange home = HomePlacement(num_experts, SpareShards(cluster))[shard];
  const int num_copies = victim.Below(description.heir_offer().room() + 1);
  std::vector<ExpertKey> copies;
  while (static_cast<int>(copies.size()) < num_copies) {
    const ExpertKey key = {.layer = counts.layer(victim.Below(counts.layer_size())).layer(),
                           .expert = victim.Below(num_experts)};
    if (key.expert < home.begin || key.expert >= home.end) copies.push_back(key);
  }
  return copies;
}

// At every shard but the one that is gone; -1: none is. Says how many.
absl::StatusOr<int> PlaceOnce(Victim& victim, int gone) {
  int num_copies = 0;
  for (int shard = 0; shard < victim.cluster().expert_size(); ++shard) {
    if (shard == gone) continue;
    ASSIGN_OR_RETURN(const std::vector<ExpertKey> copies, DrawCopies(victim, shard));
    const absl::Status told = HoldCopies(victim.cluster().expert(shard).address(), copies);
    // It checks its files for a moment after its start, and has less room if a home has just gone.
    if (!told.ok() && !absl::IsUnavailable(told) && !absl::IsInvalidArgument(told)) return told;
    if (told.ok()) num_copies += static_cast<int>(copies.size());
  }
  RETURN_IF_ERROR(victim.LetTimePass(kPlacementTime));
  return num_copies;
}

absl::StatusOr<std::vector<internal::RowCounts>> CountAll(Victim& victim) {
  std::vector<internal::RowCounts> counts;
  for (const internal::ClusterMember& shard : victim.cluster().expert()) {
    ASSIGN_OR_RETURN(counts.emplace_back(), CountRows(shard.address()));
  }
  return counts;
}

absl::StatusOr<double> MeasureImbalance(Victim& victim) {
  ASSIGN_OR_RETURN(const std::vector<internal::RowCounts> before, CountAll(victim));
  RETURN_IF_ERROR(victim.LetTimePass(kCountTime));
  ASSIGN_OR_RETURN(const std::vector<internal::RowCounts> after, CountAll(victim));
  return ImbalanceBetween(before, after);
}

absl::StatusOr<int> NumCopies(Victim& victim) {
  int num_copies = 0;
  for (const internal::ClusterMember& shard : victim.cluster().expert()) {
    ASSIGN_OR_RETURN(const internal::MemberDescription description, DescribeShard(shard.address()));
    num_copies += description.heir_offer().num_copies();
  }
  return num_copies;
}

// Until the shards have copies, or have none, and for as long as it takes to count some rounds.
absl::Status AwaitCopies(Victim& victim, bool some) {
  for (int look = 0; look < kNumLooks; ++look) {
    ASSIGN_OR_RETURN(const int num_copies, NumCopies(victim));
    if ((num_copies > 0) == some) {
      return victim.LetTimePass(5 * absl::Milliseconds(victim.cluster().limits().balance_ms()));
    }
    RETURN_IF_ERROR(victim.LetTimePass(kLookInterval));
  }
  return absl::DeadlineExceededError(some ? "the balancer moved no copy" : "copies do not go");
}

// The routers are restarted, one after the other, as the cluster file of the next life has it.
absl::Status SetBalancing(Victim& victim, bool is_on) {
  internal::ClusterFile cluster = victim.cluster();
  cluster.mutable_limits()->set_fixed_placement(!is_on);
  ASSIGN_OR_RETURN(const std::string flag, victim.ClusterFlag(cluster));
  for (const std::string& name : victim.NamesOf(internal::ROLE_ROUTER)) {
    RETURN_IF_ERROR(victim.Drain(name));
    RETURN_IF_ERROR(victim.Restart(name, {flag}));
    RETURN_IF_ERROR(victim.AwaitReady());
  }
  return absl::OkStatus();
}

// Says it again and again: a shard that is checking its files does not listen yet.
absl::Status AwaitHeld(Victim& victim, const internal::ClusterMember& shard,
                       absl::Span<const ExpertKey> copies) {
  for (int look = 0; look < kNumLooks; ++look) {
    const absl::Status told = HoldCopies(shard.address(), copies);
    if (!told.ok() && !absl::IsUnavailable(told)) return told;
    ASSIGN_OR_RETURN(const internal::MemberDescription description, DescribeShard(shard.address()));
    if (description.heir_offer().num_copies() == static_cast<int>(copies.size())) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(victim.LetTimePass(kLookInterval));
  }
  return absl::DeadlineExceededError(
      absl::StrCat(shard.name(), " does not hold the ", copies.size(), " copies that it was told"));
}

}  // namespace

absl::StatusOr<std::string> PlaceAtRandom(Victim& victim) {
  std::vector<int> spares;
  for (int shard = 0; shard < victim.cluster().expert_size(); ++shard) {
    if (victim.cluster().expert(shard).spare()) spares.push_back(shard);
  }
  const int spare = spares[victim.Below(static_cast<int>(spares.size()))];
  const std::string name = victim.cluster().expert(spare).name();
  ASSIGN_OR_RETURN(int num_copies, PlaceOnce(victim, /*gone=*/-1));
  RETURN_IF_ERROR(victim.Drain(name));
  ASSIGN_OR_RETURN(const int num_without, PlaceOnce(victim, spare));
  RETURN_IF_ERROR(victim.Restart(name));
  RETURN_IF_ERROR(victim.AwaitReady());
  ASSIGN_OR_RETURN(const int num_again, PlaceOnce(victim, /*gone=*/-1));
  return absl::StrCat(num_copies, " copies at random, ", num_without, " others while ", name,
                      " was gone, and ", num_again, " when it was back");
}

absl::Status HoldEverything(Victim& victim) {
  // Every shard counts all experts; the first is no spare, and ready.
  ASSIGN_OR_RETURN(const internal::RowCounts counts,
                   CountRows(victim.cluster().expert(0).address()));
  std::vector<ExpertKey> all;
  for (const internal::LayerRowCounts& layer : counts.layer()) {
    for (int expert = 0; expert < layer.rows_size(); ++expert) {
      all.push_back({.layer = layer.layer(), .expert = expert});
    }
  }
  for (const internal::ClusterMember& shard : victim.cluster().expert()) {
    if (shard.spare()) RETURN_IF_ERROR(AwaitHeld(victim, shard, all));
  }
  return victim.LetTimePass(kNewsTime);
}

absl::StatusOr<std::string> BalanceSkewedLoad(Victim& victim) {
  RETURN_IF_ERROR(SetBalancing(victim, false));
  for (const internal::ClusterMember& shard : victim.cluster().expert()) {
    RETURN_IF_ERROR(HoldCopies(shard.address(), {}));
  }
  RETURN_IF_ERROR(AwaitCopies(victim, false));
  ASSIGN_OR_RETURN(const double without, MeasureImbalance(victim));
  RETURN_IF_ERROR(SetBalancing(victim, true));
  RETURN_IF_ERROR(AwaitCopies(victim, true));
  ASSIGN_OR_RETURN(const double with, MeasureImbalance(victim));
  ASSIGN_OR_RETURN(const int num_copies, NumCopies(victim));
  const double fall = 1 - with / without;
  const std::string what = absl::StrFormat(
      "fullest by mean shard %.2f without the balancer, %.2f with its %d copies: %.0f %% less",
      without, with, num_copies, 100 * fall);
  if (fall < kLeastFall) return absl::FailedPreconditionError(what);
  return what;
}

}  // namespace orrery
