// From the gate's choice to a DispatchPlan: which entries go to which peer. Pure.
//
//   holders[e] = the peer to ask for expert e of this layer, or kNoPeer     (placement/ chooses)
//   Plan plan = PlanRows({num_rows, topk}, expert_ids, holders);  // result index = row * topk + j
//   ticket = exchange.Dispatch(layer, lane, plan.dispatch, rows);
//   for (outcome : exchange.Combine(ticket, ...)) again.push_back(outcome.entry);
//   plan = PlanEntries(again, holders);   // after holders was brought up to date
//
// Entries keep their result index when they are planned again, so one results buffer serves all
// attempts. It does not choose between holders and knows nothing of connections.
#ifndef ORRERY_EXCHANGE_PLAN_H_
#define ORRERY_EXCHANGE_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "exchange/exchange.h"

namespace orrery {

inline constexpr int kNoPeer = -1;

struct Plan {
  // Peers ascending, entries of each by ascending row, then expert. Peers without entries do not
  // appear.
  DispatchPlan dispatch;
  // Entries whose expert has no holder, in the same order.
  std::vector<DispatchEntry> unheld;
};

struct RoutedShape {
  int num_rows = 0;
  int topk = 0;
};

// expert_ids: [num_rows, topk]. Entry i is row i / topk's visit to expert_ids[i], with result i.
std::vector<DispatchEntry> RoutedEntries(RoutedShape shape, absl::Span<const int32_t> expert_ids);

// expert_ids: each an index into holders. holders: [num_experts], peer or kNoPeer.
Plan PlanRows(RoutedShape shape, absl::Span<const int32_t> expert_ids,
              absl::Span<const int> holders);

// The same for a list of entries in any order.
Plan PlanEntries(absl::Span<const DispatchEntry> entries, absl::Span<const int> holders);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_PLAN_H_
