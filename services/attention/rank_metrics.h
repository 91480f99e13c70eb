// What a rank measures of its steps, for the monitoring port: written by the engine's loop, read by whoever scrapes.
//
//   RankMetrics metrics({"expert-0", "expert-1"});
//   metrics.heartbeat.Beat();                          // each layer, and while a layer waits
//   metrics.exchange_seconds[1].Observe(0.0004);
//
// Threads: any.
#ifndef ORRERY_SERVICES_ATTENTION_RANK_METRICS_H_
#define ORRERY_SERVICES_ATTENTION_RANK_METRICS_H_

#include <deque>
#include <string>
#include <vector>

#include "base/heartbeat.h"
#include "rpc/monitoring/instruments.h"

namespace orrery {

struct RankMetrics {
  // peer_names: the shards in order; none for a dense model.
  explicit RankMetrics(std::vector<std::string> peer_names);

  const std::vector<std::string> peers;
  Heartbeat heartbeat;
  Histogram step_seconds{OneTwoFive(-4, 2)};
  Histogram step_rows{PowersOfTwo(12)};
  std::deque<Histogram> exchange_seconds;  // by peer
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_RANK_METRICS_H_
