#include "placement/balancer.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace orrery {
namespace {

// A placement that lowers the imbalance by less than this is not worth its loading.
constexpr double kMinGain = 0.05;
// With so few rows for a shard and layer, chance alone makes some shards a tenth fuller than others.
constexpr double kMinRowsPerShard = 100;
// A copy is worth its loading when it evens out about what a shard has that is a sixteenth above the mean: then
// the sum of squares falls by this part of the mean's square.
constexpr double kMinSquareGain = 0.002;
// How much more a copy counts that is there already, and one beside others of its gate group.
constexpr double kStaysBonus = 0.1;
constexpr double kGroupBonus = 0.01;

// One layer under reckoning.
struct Layer {
  int layer = 0;
  std::vector<double> rows;               // by expert
  std::vector<std::vector<int>> holders;  // by expert
  std::vector<double> loads;              // by shard
  std::vector<std::vector<int>>
      in_group;  // [shard][group]: how many of its experts the shard holds
  double mean = 0;
};

struct Candidate {
  double score = 0;  // 0: there is none
  int expert = 0;
  int shard = 0;
};

using Key = std::pair<int, int>;  // (layer, expert)

class Reckoning {
 public:
  explicit Reckoning(const BalanceInput& input) : input_(input), shards_(NamesInOrder(input)) {
    for (const LayerRows& rows : input.rows) {
      Layer& layer = layers_.emplace_back();
      layer.layer = rows.layer;
      layer.rows = rows.rows;
      layer.holders.resize(rows.rows.size());
      layer.loads.assign(num_shards(), 0);
      layer.in_group.assign(num_shards(), std::vector<int>(std::max(1, input.num_groups)));
    }
    std::sort(layers_.begin(), layers_.end(),
              [](const Layer& a, const Layer& b) { return a.layer < b.layer; });
    for (size_t i = 0; i < layers_.size(); ++i) index_[layers_[i].layer] = i;
    present_.resize(num_shards());
    for (int shard = 0; shard < num_shards(); ++shard) {
      room_.push_back(std::max(0, Of(shard).room));
      ForEach(Of(shard).kept, [&](Layer& layer, int expert) { Hold(layer, expert, shard); });
      ForEach(Of(shard).copies, [&](Layer& layer, int expert) {
        if (!Holds(layer, expert, shard)) present_[shard].insert({layer.layer, expert});
      });
    }
    for (Layer& layer : layers_) {
      for (size_t expert = 0; expert < layer.rows.size(); ++expert) {
        if (layer.holders[expert].empty()) layer.rows[expert] = 0;  // nobody has its rows
      }
      layer.mean = std::accumulate(layer.rows.begin(), layer.rows.end(), 0.0) / num_shards();
      FillLoads(layer);
    }
  }

  int num_shards() const { return static_cast<int>(shards_.size()); }
  double rows_per_shard() const {
    double sum = 0;
    for (const Layer& layer : layers_) sum += layer.mean;
    return layers_.empty() ? 0 : sum / static_cast<double>(layers_.size());
  }
  double imbalance() const {
    std::vector<std::vector<double>> loads;
    for (const Layer& layer : layers_) loads.push_back(layer.loads);
    return Imbalance(loads);
  }

  // Adds what is there, the fullest experts first, as far as there is room.
  void AddPresent() {
    for (int shard = 0; shard < num_shards(); ++shard) {
      std::vector<std::pair<double, Key>> copies;
      for (const Key& key : present_[shard]) {
        copies.emplace_back(-LayerOf(key.first).rows[key.second], key);
      }
      std::sort(copies.begin(), copies.end());
      for (const auto& [rows, key] : copies) {
        if (room_[shard] > 0) Add(LayerOf(key.first), key.second, shard);
      }
    }
  }

  // Adds copies until none is worth it.
  void AddBest() {
    std::vector<Candidate> best;
    for (const Layer& layer : layers_) best.push_back(BestOf(layer));
    while (true) {
      size_t next = 0;
      for (size_t i = 1; i < layers_.size(); ++i) {
        if (best[i].score > best[next].score) next = i;
      }
      if (layers_.empty() || best[next].score <= 0) return;
      const auto [score, expert, shard] = best[next];
      if (room_[shard] > 0) Add(layers_[next], expert, shard);
      best[next] = BestOf(layers_[next]);
    }
  }

  // In the order of the input's shards.
  std::vector<std::vector<ExpertKey>> copies() const {
    std::vector<std::vector<ExpertKey>> copies(num_shards());
    for (const auto& [shard, key] : added_) copies[shards_[shard]].push_back(key);
    return copies;
  }

  // "in layer 3 expert-1 had 2.10 times the mean rows"
  std::string DescribeWorst() const;
  // "4 copies more, 1 fewer, first of layer 3, expert 7 (18 % of the layer's rows) at expert-4"
  std::string DescribeMoves() const;

 private:
  static std::vector<int> NamesInOrder(const BalanceInput& input) {
    std::vector<int> order(input.shards.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return input.shards[a].name < input.shards[b].name; });
    return order;
  }

  const ShardHoldings& Of(int shard) const { return input_.shards[shards_[shard]]; }
  Layer& LayerOf(int layer) { return layers_[index_.at(layer)]; }
  int GroupOf(const Layer& layer, int expert) const {
    return static_cast<int>(int64_t{expert} * std::max(1, input_.num_groups) /
                            static_cast<int64_t>(layer.rows.size()));
  }

  // Layers that had no rows, and experts that do not exist, are left out.
  template <typename Function>
  void ForEach(const std::vector<LayerExperts>& held, const Function& function) {
    for (const LayerExperts& of_layer : held) {
      const auto found = index_.find(of_layer.layer);
      if (found == index_.end()) continue;
      Layer& layer = layers_[found->second];
      for (const int expert : of_layer.experts) {
        if (expert >= 0 && expert < static_cast<int>(layer.rows.size())) function(layer, expert);
      }
    }
  }

  static bool Holds(const Layer& layer, int expert, int shard) {
    const std::vector<int>& holders = layer.holders[expert];
    return std::find(holders.begin(), holders.end(), shard) != holders.end();
  }
  void Hold(Layer& layer, int expert, int shard) {
    if (Holds(layer, expert, shard)) return;
    layer.holders[expert].push_back(shard);
    ++layer.in_group[shard][GroupOf(layer, expert)];
  }
  static void FillLoads(Layer& layer) {
    std::fill(layer.loads.begin(), layer.loads.end(), 0.0);
    for (size_t expert = 0; expert < layer.rows.size(); ++expert) {
      const std::vector<int>& holders = layer.holders[expert];
      for (const int shard : holders) {
        layer.loads[shard] += layer.rows[expert] / static_cast<double>(holders.size());
      }
    }
  }
  void Add(Layer& layer, int expert, int shard) {
    Hold(layer, expert, shard);
    FillLoads(layer);
    --room_[shard];
    added_.push_back({shard, {.layer = layer.layer, .expert = expert}});
  }

  // What a copy takes off the sum of squares of the layer's loads.
  static double SquareGain(const Layer& layer, int expert, int shard) {
    const double rows = layer.rows[expert];
    const auto num_holders = static_cast<double>(layer.holders[expert].size());
    const double less = rows / num_holders - rows / (num_holders + 1);
    const double more = rows / (num_holders + 1);
    double gain = -(2 * layer.loads[shard] + more) * more;
    for (const int holder : layer.holders[expert]) gain += (2 * layer.loads[holder] - less) * less;
    return gain;
  }

  Candidate BestOf(const Layer& layer) const {
    Candidate best;
    const double least = kMinSquareGain * layer.mean * layer.mean;
    for (int expert = 0; expert < static_cast<int>(layer.rows.size()); ++expert) {
      if (layer.rows[expert] <= 0) continue;
      for (int shard = 0; shard < num_shards(); ++shard) {
        if (room_[shard] <= 0 || Holds(layer, expert, shard)) continue;
        double score = SquareGain(layer, expert, shard);
        if (score <= 0) continue;
        if (present_[shard].count({layer.layer, expert}) > 0) score *= 1 + kStaysBonus;
        if (layer.in_group[shard][GroupOf(layer, expert)] > 0) score *= 1 + kGroupBonus;
        if (score > std::max(least, best.score)) best = {score, expert, shard};
      }
    }
    return best;
  }

  const BalanceInput& input_;
  const std::vector<int> shards_;  // of the input, by name; everything else counts in this order
  std::vector<Layer> layers_;      // ascending
  std::map<int, size_t> index_;    // of a layer
  std::vector<std::set<Key>> present_;  // [shard] copies that are there
  std::vector<int> room_;               // [shard] left
  std::vector<std::pair<int, ExpertKey>> added_;
};

std::string Reckoning::DescribeWorst() const {
  const Layer* worst = nullptr;
  const auto excess = [](const Layer& layer) {
    return *std::max_element(layer.loads.begin(), layer.loads.end()) - layer.mean;
  };
  for (const Layer& layer : layers_) {
    if (worst == nullptr || excess(layer) > excess(*worst)) worst = &layer;
  }
  if (worst == nullptr || worst->mean <= 0) return "";
  const auto fullest = std::max_element(worst->loads.begin(), worst->loads.end());
  return absl::StrFormat("in layer %d %s had %.2f times the mean rows", worst->layer,
                         Of(static_cast<int>(fullest - worst->loads.begin())).name,
                         *fullest / worst->mean);
}

std::string Reckoning::DescribeMoves() const {
  int num_more = 0, num_kept = 0, num_present = 0;
  const std::pair<int, ExpertKey>* first = nullptr;
  for (const auto& added : added_) {
    const bool stays = present_[added.first].count({added.second.layer, added.second.expert}) > 0;
    num_kept += stays;
    num_more += !stays;
    if (!stays && first == nullptr) first = &added;
  }
  for (const auto& copies : present_) num_present += static_cast<int>(copies.size());
  std::string text = absl::StrCat(num_more, num_more == 1 ? " copy" : " copies", " more, ",
                                  num_present - num_kept, " fewer");
  if (first != nullptr) {
    const Layer& layer = layers_[index_.at(first->second.layer)];
    absl::StrAppendFormat(
        &text, ", first of layer %d, expert %d (%.0f %% of the layer's rows) at %s", layer.layer,
        first->second.expert, 100 * layer.rows[first->second.expert] / (layer.mean * num_shards()),
        Of(first->first).name);
  }
  return text;
}

}  // namespace

double Imbalance(absl::Span<const std::vector<double>> layers) {
  double fullest = 0, mean = 0;
  for (const std::vector<double>& loads : layers) {
    if (loads.empty()) continue;
    fullest += *std::max_element(loads.begin(), loads.end());
    mean += std::accumulate(loads.begin(), loads.end(), 0.0) / static_cast<double>(loads.size());
  }
  return mean > 0 ? fullest / mean : 0;
}

BalancePlan Balance(const BalanceInput& input) {
  if (input.shards.empty()) return {.copies = {}, .reason = "no shard is there"};
  Reckoning present(input);
  present.AddPresent();
  Reckoning best(input);
  best.AddBest();
  BalancePlan plan = {.copies = present.copies(),
                      .is_move = false,
                      .before = present.imbalance(),
                      .after = present.imbalance(),
                      .reason = ""};
  const double after = best.imbalance();
  if (present.rows_per_shard() < kMinRowsPerShard) {
    plan.reason =
        absl::StrFormat("%.0f rows for a shard and layer are too few to judge by, of %.0f",
                        present.rows_per_shard(), kMinRowsPerShard);
  } else if (after > plan.before * (1 - kMinGain)) {
    plan.reason =
        absl::StrFormat("the best placement would have %.2f instead of %.2f", after, plan.before);
  } else {
    plan.copies = best.copies();
    plan.is_move = true;
    plan.after = after;
    plan.reason = absl::StrCat(present.DescribeWorst(), "; ", best.DescribeMoves());
  }
  return plan;
}

}  // namespace orrery
