// The cluster's own counters before and after a phase, summed over its members.
//
//   const Counters before = CountersOf(status);
//   ...
//   Counters change = CounterChange(before, CountersOf(later));
//   change["preemptions"]
//
// Counts become differences; gauges (leaked, used and cached blocks) stay what they are at the end.
// A router learns of its members up to a second late: ask it when the cluster has been idle that
// long.
#ifndef ORRERY_TOOLS_BENCH_COUNTERS_H_
#define ORRERY_TOOLS_BENCH_COUNTERS_H_

#include <cstdint>
#include <map>
#include <string>

#include "proto/orrery.pb.h"

namespace orrery {

using Counters = std::map<std::string, int64_t>;

Counters CountersOf(const v1::ClusterStatusResponse& status);
Counters CounterChange(const Counters& before, const Counters& after);

// Requests open at routers, running or waiting at ranks.
int64_t NumOpen(const v1::ClusterStatusResponse& status);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_COUNTERS_H_
