// Who takes over an expert whose shard is gone, and whether that always works out. Pure functions.
//
//   HeirOrder({.layer = 3, .expert = 9}, names)   ->  {4, 0, 2, ...}: shard 4 is to load it, if it has
//                                                     no room shard 0, ...
//   FindUncovered(holders, room, ...)             ->  "without expert-1 and expert-3, 14 experts have no
//                                                     room left"
//
// Rendezvous hashing: each shard's claim on an expert depends on the two of them alone. So all who see
// the same live shards name the same heir without talking to each other, the experts of a dead shard
// spread evenly over all others, and another shard that dies or returns moves only what it inherits
// itself. Who sees others names another heir: two shards then load one expert, which is waste and no
// error.
#ifndef ORRERY_PLACEMENT_HEIRS_H_
#define ORRERY_PLACEMENT_HEIRS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "placement/placement.h"

namespace orrery {

// All shards, by descending claim; shard_names[s] is the stable name of shard s.
std::vector<int> HeirOrder(ExpertKey key, absl::Span<const std::string> shard_names);

// How many experts each shard needs room for, so that any max_failed_shards of num_shards may be gone that
// hold at most experts_per_shard each, which nobody else does.
int NeededRoom(int experts_per_shard, int num_shards, int max_failed_shards);

// What may happen, and what for.
struct Coverage {
  absl::Span<const int> layers;  // the MoE layers
  int num_experts = 0;           // of each
  int max_failed_shards = 0;
  absl::Span<const int> room;  // [num_shards] how many more experts each may load
};

struct Uncovered {
  std::vector<int> failed_shards;  // without these
  int num_experts = 0;             // so many experts are held by nobody
  int room = 0;                    // and the others together may load so many
};

// The worst choice of max_failed_shards shards without which the others cannot hold every expert;
// nullopt if there is none. Looks at every choice up to 100,000 of them, and at no more.
std::optional<Uncovered> FindUncovered(const HolderTable& holders, const Coverage& coverage);

}  // namespace orrery

#endif  // ORRERY_PLACEMENT_HEIRS_H_
