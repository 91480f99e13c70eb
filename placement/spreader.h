// Of which holder a rank asks each expert of a layer, so that copies share the load.
//
//   Spreader spreader(num_experts, num_shards);
//   spreader.Pick(holders, {.layer = 3, .rows = rows}, usable, picked);   // picked[e]: a shard, or kNoShard
//
// Experts without a choice go first; then those with most rows, each to the usable holder that has fewest rows so
// far. "So far" also counts earlier picks for the layer, each half as much as the next one: so a step of one
// row spreads over time as well, and of two holders the one with less to do besides does not get all of a hot
// expert for ever. Whoever is asked, the bits are the same.
//
// Memory: a layer's first visit takes some; beside it Pick allocates nothing. Threads: belongs to one loop.
#ifndef ORRERY_PLACEMENT_SPREADER_H_
#define ORRERY_PLACEMENT_SPREADER_H_

#include <map>
#include <vector>

#include "absl/types/span.h"
#include "placement/placement.h"

namespace orrery {

// How many rows of a step visit each expert of a layer.
struct LayerVisits {
  int layer = 0;
  absl::Span<const int> rows;  // [num_experts]
};

class Spreader {
 public:
  Spreader(int num_experts, int num_shards);

  // picked: [num_experts]; kNoShard where no row comes, or no shard s with usable[s] holds the expert.
  void Pick(const HolderTable& holders, const LayerVisits& visits, const std::vector<bool>& usable,
            absl::Span<int> picked);

 private:
  const int num_experts_;
  const int num_shards_;
  std::map<int, std::vector<double>> rows_so_far_;  // by layer: [num_shards]
  std::vector<int> with_choice_;                    // scratch: experts
};

}  // namespace orrery

#endif  // ORRERY_PLACEMENT_SPREADER_H_
