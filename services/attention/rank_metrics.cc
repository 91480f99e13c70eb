#include "services/attention/rank_metrics.h"

#include <utility>

namespace orrery {

RankMetrics::RankMetrics(std::vector<std::string> peer_names) : peers(std::move(peer_names)) {
  for (size_t peer = 0; peer < peers.size(); ++peer) {
    exchange_seconds.emplace_back(OneTwoFive(-5, 1));
  }
}

}  // namespace orrery
