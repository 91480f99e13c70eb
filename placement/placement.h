// Which shard should hold which expert, and who does hold it. Pure functions and a table; no I/O.
//
//   DefaultPlacement({.num_experts = 24, .num_shards = 5})   ->  [0,4) [4,9) [9,14) [14,19) [19,24)
//
//   HolderTable holders(num_shards);
//   holders.SetHeld(2, {{.layer = 3, .experts = {8, 9, 10}}});          // as shard 2 advertises
//   int shard = holders.Pick({.layer = 3, .expert = 9}, usable);        // 2, or kNoShard
//
// Placement is a hint: a shard that is asked for what it does not hold says so, so nothing here
// needs agreement. It is not the exchange's plan (exchange/plan.h), which turns picks into entries
// per peer.
//
// Threads: none; a HolderTable belongs to one loop.
#ifndef ORRERY_PLACEMENT_PLACEMENT_H_
#define ORRERY_PLACEMENT_PLACEMENT_H_

#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace orrery {

inline constexpr int kNoShard = -1;

// Experts [begin, end) of every MoE layer.
struct ExpertRange {
  int begin = 0;
  int end = 0;
  int size() const { return end - begin; }
};

struct PlacementSize {
  int num_experts = 0;
  int num_shards = 0;
};

// One contiguous range per shard, ascending; sizes differ by at most one, so with more shards than
// experts some are empty. Shard s begins at floor(s * num_experts / num_shards), which makes a
// border fall on the border of a gate group wherever s / num_shards does: when one of the two
// counts divides the other, no group is split more than it must be.
std::vector<ExpertRange> DefaultPlacement(PlacementSize size);
// The homes of all experts: the same over the shards s without is_spare[s], of which there is at least one; a
// spare's range is empty. A shard never drops what has its home there.
std::vector<ExpertRange> HomePlacement(int num_experts, const std::vector<bool>& is_spare);

// One expert of one layer.
struct ExpertKey {
  int layer = 0;
  int expert = 0;
};

// Some experts of one layer, ascending.
struct LayerExperts {
  int layer = 0;
  std::vector<int> experts;
  bool operator==(const LayerExperts&) const = default;
};

// Who holds what, as the shards last said.
class HolderTable {
 public:
  explicit HolderTable(int num_shards) : num_shards_(num_shards) {}

  int num_shards() const { return num_shards_; }
  // Replaces all that the shard was known to hold; an empty list when it is gone.
  void SetHeld(int shard, absl::Span<const LayerExperts> held);
  // The shard said that it does hold this one, or does not.
  void Add(int shard, ExpertKey key);
  void Remove(int shard, ExpertKey key);
  bool Holds(int shard, ExpertKey key) const;
  // Shards, ascending; empty if nobody. Valid until the next change.
  const std::vector<int>& Holders(ExpertKey key) const;
  // A holder among the shards s with usable[s], or kNoShard. Deterministic: holders are tried in
  // order of their index, starting at the expert'th, so that replicas of many experts share the
  // load.
  int Pick(ExpertKey key, const std::vector<bool>& usable) const;
  // The experts below num_experts of each layer that Pick would answer with kNoShard. Layers that
  // lack none are left out.
  std::vector<LayerExperts> MissingExperts(absl::Span<const int> layers, int num_experts,
                                           const std::vector<bool>& usable) const;

 private:
  // layer -> expert -> shards, ascending.
  std::map<int, std::map<int, std::vector<int>>> holders_;
  int num_shards_;
};

// "layers 3-60: experts 12-15, 20 have no holder; layer 61: expert 7 has no holder". Empty if
// nothing is missing.
std::string DescribeMissing(absl::Span<const LayerExperts> missing);

}  // namespace orrery

#endif  // ORRERY_PLACEMENT_PLACEMENT_H_
