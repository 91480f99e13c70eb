#include "tools/bench/summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace orrery {

Summary Summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.count = static_cast<int64_t>(values.size()),
          .mean = sum / static_cast<double>(values.size()),
          .median = Percentile(values, 50.0),
          .p90 = Percentile(values, 90.0),
          .p99 = Percentile(values, 99.0),
          .max = values.back()};
}

double Percentile(absl::Span<const double> sorted, double percent) {
  ORRERY_CHECK(!sorted.empty() && percent >= 0.0 && percent <= 100.0) << percent;
  const double position = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(std::floor(position));
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double Median(std::vector<double> values) { return Summarize(std::move(values)).median; }

}  // namespace orrery
