// Metrics on their way to a scraper, in Prometheus' text format.
//
//   MetricFamilies families;
//   families.AddCounter("orrery_attention_preemptions_total", "Sequences set back.", 3);
//   for (...) families.AddGauge("orrery_attention_peer_usable", "1 if ...", 1, {{"peer", name}});
//   std::string text = families.ToText();
//
// Metrics of one name are one family, whose help is that of the first. Made anew for each scrape.
//
// Threads: one owner.
#ifndef ORRERY_RPC_MONITORING_METRIC_FAMILIES_H_
#define ORRERY_RPC_MONITORING_METRIC_FAMILIES_H_

#include <string>
#include <utility>
#include <vector>

#include "prometheus/metric_family.h"
#include "rpc/monitoring/instruments.h"

namespace orrery {

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

class MetricFamilies {
 public:
  void AddGauge(const std::string& name, const std::string& help, double value,
                const MetricLabels& labels = {});
  // Ends with _total.
  void AddCounter(const std::string& name, const std::string& help, double value,
                  const MetricLabels& labels = {});
  void AddHistogram(const std::string& name, const std::string& help,
                    const HistogramReading& reading, const MetricLabels& labels = {});
  std::string ToText() const;

 private:
  prometheus::ClientMetric& Add(const std::string& name, const std::string& help,
                                prometheus::MetricType type, const MetricLabels& labels);

  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_METRIC_FAMILIES_H_
