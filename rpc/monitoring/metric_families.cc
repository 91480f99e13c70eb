#include "rpc/monitoring/metric_families.h"

#include <algorithm>
#include <sstream>

#include "prometheus/text_serializer.h"

namespace orrery {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

ClientMetric& MetricFamilies::Add(const std::string& name, const std::string& help, MetricType type,
                                  const MetricLabels& labels) {
  auto family = std::find_if(families_.begin(), families_.end(),
                             [&](const MetricFamily& known) { return known.name == name; });
  if (family == families_.end()) {
    families_.push_back({name, help, type, {}});
    family = families_.end() - 1;
  }
  ClientMetric& metric = family->metric.emplace_back();
  for (const auto& [label, value] : labels) metric.label.push_back({label, value});
  return metric;
}

void MetricFamilies::AddGauge(const std::string& name, const std::string& help, double value,
                              const MetricLabels& labels) {
  Add(name, help, MetricType::Gauge, labels).gauge.value = value;
}

void MetricFamilies::AddCounter(const std::string& name, const std::string& help, double value,
                                const MetricLabels& labels) {
  Add(name, help, MetricType::Counter, labels).counter.value = value;
}

void MetricFamilies::AddHistogram(const std::string& name, const std::string& help,
                                  const HistogramReading& reading, const MetricLabels& labels) {
  ClientMetric::Histogram& histogram = Add(name, help, MetricType::Histogram, labels).histogram;
  histogram.sample_sum = reading.sum;
  for (size_t i = 0; i < reading.counts.size(); ++i) {
    histogram.sample_count += reading.counts[i];
    if (i == reading.bounds.size()) break;  // the last bucket, +Inf, is the count
    ClientMetric::Bucket& bucket = histogram.bucket.emplace_back();
    bucket.cumulative_count = histogram.sample_count;
    bucket.upper_bound = reading.bounds[i];
  }
}

std::string MetricFamilies::ToText() const {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families_);
  return text.str();
}

}  // namespace orrery
