#include "services/attention/rank_metrics.h"

#include <utility>

#include "rpc/monitoring/metric_families.h"

namespace orrery {

RankMetrics::RankMetrics(std::vector<std::string> peer_names) : peers(std::move(peer_names)) {
  for (size_t peer = 0; peer < peers.size(); ++peer) {
    exchange_seconds.emplace_back(OneTwoFive(-5, 1));
  }
}

void RankMetrics::AddTo(MetricFamilies& families) const {
  families.AddHistogram("orrery_attention_step_seconds", "Time of a step through all layers.",
                        step_seconds.Read());
  families.AddHistogram("orrery_attention_step_rows", "Rows in a step.", step_rows.Read());
  for (size_t peer = 0; peer < peers.size(); ++peer) {
    families.AddHistogram("orrery_attention_exchange_seconds",
                          "From rows on their way to a shard to its answer.",
                          exchange_seconds[peer].Read(), {{"peer", peers[peer]}});
  }
}

}  // namespace orrery
