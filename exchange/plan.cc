#include "exchange/plan.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"

namespace orrery {

std::vector<DispatchEntry> RoutedEntries(RoutedShape shape, absl::Span<const int32_t> expert_ids) {
  ORRERY_CHECK(shape.num_rows >= 0 && shape.topk >= 0 &&
               expert_ids.size() == static_cast<size_t>(shape.num_rows) * shape.topk)
      << shape.num_rows << " rows, topk " << shape.topk << ", " << expert_ids.size() << " ids";
  std::vector<DispatchEntry> entries(expert_ids.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i] = {.row = static_cast<int32_t>(i / shape.topk),
                  .expert = expert_ids[i],
                  .result = static_cast<int32_t>(i)};
  }
  return entries;
}

Plan PlanRows(RoutedShape shape, absl::Span<const int32_t> expert_ids,
              absl::Span<const int> holders) {
  return PlanEntries(RoutedEntries(shape, expert_ids), holders);
}

Plan PlanEntries(absl::Span<const DispatchEntry> entries, absl::Span<const int> holders) {
  std::vector<DispatchEntry> sorted(entries.begin(), entries.end());
  std::sort(sorted.begin(), sorted.end(), [](const DispatchEntry& a, const DispatchEntry& b) {
    return std::tie(a.row, a.expert, a.result) < std::tie(b.row, b.expert, b.result);
  });
  Plan plan;
  std::vector<std::vector<DispatchEntry>> by_peer;
  for (const DispatchEntry& entry : sorted) {
    ORRERY_CHECK(entry.expert >= 0 && static_cast<size_t>(entry.expert) < holders.size())
        << "expert " << entry.expert << " of " << holders.size();
    const int peer = holders[entry.expert];
    if (peer < 0) {
      plan.unheld.push_back(entry);
      continue;
    }
    if (static_cast<size_t>(peer) >= by_peer.size()) by_peer.resize(peer + 1);
    by_peer[peer].push_back(entry);
  }
  for (size_t peer = 0; peer < by_peer.size(); ++peer) {
    if (by_peer[peer].empty()) continue;
    plan.dispatch.push_back({.peer = static_cast<int>(peer), .entries = std::move(by_peer[peer])});
  }
  return plan;
}

}  // namespace orrery
