#include "services/router/balancer_core.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace orrery {
namespace {

// Of the rows of a round in the next one.
constexpr double kRemembered = 0.5;

int64_t SumOf(const std::map<int, std::vector<int64_t>>& count) {
  int64_t sum = 0;
  for (const auto& [layer, rows] : count)
    sum += std::accumulate(rows.begin(), rows.end(), int64_t{0});
  return sum;
}

std::vector<LayerExperts> Grouped(const std::set<std::pair<int, int>>& keys) {
  std::vector<LayerExperts> grouped;
  for (const auto& [layer, expert] : keys) {
    if (grouped.empty() || grouped.back().layer != layer) {
      grouped.push_back({.layer = layer, .experts = {}});
    }
    grouped.back().experts.push_back(expert);
  }
  return grouped;
}

}  // namespace

bool BalancerCore::IsOurs(const Membership& membership) const {
  for (int i = 0; i < membership.num_members(); ++i) {
    const MemberView& member = membership.member(i);
    const bool is_live_router =
        member.info.role == internal::ROLE_ROUTER && member.is_reachable && member.refusal.empty();
    if (is_live_router && member.info.name < options_.self) return false;
  }
  return true;
}

void BalancerCore::Forget() {
  shards_.clear();
  has_moved_ = false;
  view_.Clear();
}

std::vector<int> BalancerCore::Shards(const Membership& membership) const {
  std::vector<int> shards;
  for (const auto& [member, home] : options_.homes) {
    if (membership.IsUsable(member)) shards.push_back(member);
  }
  return shards;
}

void BalancerCore::OnRows(int member, const internal::RowCounts& counts) {
  Shard& shard = shards_[member];
  std::map<int, std::vector<int64_t>> count;
  for (const internal::LayerRowCounts& layer : counts.layer()) {
    count[layer.layer()].assign(layer.rows().begin(), layer.rows().end());
  }
  const bool is_first = shard.last_count.empty();
  if (SumOf(count) < SumOf(shard.last_count)) {  // it was started anew
    shard.last_count.clear();
    shard.told = {};
  }
  for (const auto& [layer, rows] : count) {
    std::vector<double>& lately = shard.rows[layer];
    std::vector<int64_t>& last = shard.last_count[layer];
    lately.resize(rows.size());
    last.resize(rows.size());
    for (size_t expert = 0; expert < rows.size() && !is_first; ++expert) {
      lately[expert] += static_cast<double>(std::max<int64_t>(0, rows[expert] - last[expert]));
    }
  }
  shard.last_count = std::move(count);
}

bool BalancerCore::IsHomeLive(int expert, const Membership& membership) const {
  for (const auto& [member, home] : options_.homes) {
    if (expert >= home.begin && expert < home.end) return membership.IsUsable(member);
  }
  return false;
}

ShardHoldings BalancerCore::HoldingsOf(int member, const Membership& membership,
                                       absl::Time now) const {
  const internal::MemberDescription& description = membership.member(member).description;
  const ExpertRange& home = options_.homes.at(member);
  std::set<Key> kept, copies;
  for (const internal::HeldExperts& layer : description.held()) {
    for (const int expert : layer.expert()) {
      const bool is_at_home = expert >= home.begin && expert < home.end;
      const bool is_copy = !is_at_home && IsHomeLive(expert, membership);
      (is_copy ? copies : kept).insert({layer.layer(), expert});
    }
  }
  const auto shard = shards_.find(member);
  if (shard != shards_.end() && now < shard->second.told.at + kLoadTime) {
    for (const ExpertKey& key : shard->second.told.copies) {
      if (kept.count({key.layer, key.expert}) == 0) copies.insert({key.layer, key.expert});
    }
  }
  return {.name = membership.member(member).info.name,
          .room = description.heir_offer().room(),
          .kept = Grouped(kept),
          .copies = Grouped(copies)};
}

std::vector<LayerRows> BalancerCore::RowsOfExperts() const {
  Rows sum;
  for (const auto& [member, shard] : shards_) {
    for (const auto& [layer, rows] : shard.rows) {
      std::vector<double>& of_layer = sum[layer];
      of_layer.resize(std::max(of_layer.size(), rows.size()));
      for (size_t expert = 0; expert < rows.size(); ++expert) of_layer[expert] += rows[expert];
    }
  }
  std::vector<LayerRows> layers;
  for (auto& [layer, rows] : sum) layers.push_back({.layer = layer, .rows = std::move(rows)});
  return layers;
}

double BalancerCore::MeasuredImbalance(const std::vector<int>& shards) const {
  std::map<int, std::vector<double>> loads;  // by layer: by shard
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto shard = shards_.find(shards[i]);
    if (shard == shards_.end()) continue;
    for (const auto& [layer, rows] : shard->second.rows) {
      loads[layer].resize(shards.size());
      loads[layer][i] = std::accumulate(rows.begin(), rows.end(), 0.0);
    }
  }
  std::vector<std::vector<double>> layers;
  for (auto& [layer, of_layer] : loads) layers.push_back(std::move(of_layer));
  return Imbalance(layers);
}

std::vector<BalanceOrder> BalancerCore::Decide(const Membership& membership, absl::Time now) {
  const std::vector<int> shards = Shards(membership);
  BalanceInput input = {.rows = RowsOfExperts(), .num_groups = options_.num_groups, .shards = {}};
  for (const int member : shards) input.shards.push_back(HoldingsOf(member, membership, now));
  const BalancePlan plan = Balance(input);
  view_.set_imbalance(MeasuredImbalance(shards));
  has_moved_ = plan.is_move;
  if (plan.is_move) {
    view_.set_before(plan.before);
    view_.set_after(plan.after);
    view_.set_reason(plan.reason);
    view_.set_num_moves(view_.num_moves() + 1);
  }
  std::vector<BalanceOrder> orders;
  for (size_t i = 0; i < shards.size(); ++i) {
    const int member = shards[i];
    if (!membership.member(member).description.has_heir_offer()) continue;
    if (plan.is_move) shards_[member].told = {plan.copies[i], now};
    orders.push_back({.member = member, .copies = plan.copies[i]});
  }
  for (auto& [member, shard] : shards_) {
    for (auto& [layer, rows] : shard.rows) {
      for (double& of_expert : rows) of_expert *= kRemembered;
    }
  }
  return orders;
}

}  // namespace orrery
