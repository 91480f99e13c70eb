// Which shards should hold extra copies of hot experts, so that the rows of a step fall evenly on them. A pure
// function.
//
//   const BalancePlan plan = Balance({.rows = rows, .num_groups = 8, .shards = shards});
//   if (plan.is_move) LogInfo(plan.reason);
//   for (size_t s = 0; s < shards.size(); ++s) Tell(shards[s], plan.copies[s]);
//
// Homes never move (placement.h), and no shard drops what has its home there: what is placed are copies beside
// it, each shard as many as it has room for. To move a hot expert is to add a copy here and to leave one out there.
//
// Imbalance: a layer waits for its fullest shard, so it is the sum over layers of the fullest shard's rows by the
// sum over layers of the mean shard's. 1 is best.
//
// How, after the published idea of EPLB (replicate the heaviest, pack them where there is least): an expert's
// rows are reckoned to fall evenly on its holders (spreader.h sees to that, about). The copy that takes most off
// the sum of squares of its layer's loads is added, again and again, until none is worth its loading. One
// that is there already is preferred to others that are little better, and of equals one on a shard that holds
// experts of the same gate group, for rows that visit one of a group often visit another, and then travel once.
// The outcome is a move only if it lowers the imbalance by a twentieth; else all stays as it is.
//
// Same input, same plan; the order of the shards does not matter, for ties go by names.
#ifndef ORRERY_PLACEMENT_BALANCER_H_
#define ORRERY_PLACEMENT_BALANCER_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "placement/placement.h"

namespace orrery {

struct LayerRows {
  int layer = 0;
  std::vector<double> rows;  // by expert
};

// A shard that is there.
struct ShardHoldings {
  std::string name;
  int room = 0;  // how many copies it may hold
  // What it holds in any case: its home, and experts of shards that are gone.
  std::vector<LayerExperts> kept = {};
  // What it holds beside them now.
  std::vector<LayerExperts> copies = {};
};

struct BalanceInput {
  std::vector<LayerRows> rows;  // counted lately; all layers have the same number of experts
  int num_groups = 1;           // gate groups of a layer
  std::vector<ShardHoldings> shards;
};

struct BalancePlan {
  // What each shard should hold beside what it keeps, those first that take most off others.
  std::vector<std::vector<ExpertKey>> copies;
  // Whether that differs from what is there, for a gain.
  bool is_move = false;
  // The imbalance with what is there, and with the plan; 0 if there are no rows.
  double before = 0;
  double after = 0;
  // Why it moved, or why not: one sentence.
  std::string reason;
};

BalancePlan Balance(const BalanceInput& input);

// layers[l][s]: rows of shard s in layer l. 0 without rows.
double Imbalance(absl::Span<const std::vector<double>> layers);

}  // namespace orrery

#endif  // ORRERY_PLACEMENT_BALANCER_H_
