// The metrics that Prometheus' clients have of every process, under their standard names: process_cpu_seconds_total,
// process_resident_memory_bytes and so on. What /proc does not tell is left out.
#ifndef ORRERY_RPC_MONITORING_PROCESS_METRICS_H_
#define ORRERY_RPC_MONITORING_PROCESS_METRICS_H_

#include "rpc/monitoring/metric_families.h"

namespace orrery {

void AddProcessMetrics(MetricFamilies& families);

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_PROCESS_METRICS_H_
