// A list of measured values in few numbers.
//
//   Summary itl = Summarize({12.0, 11.5, 30.2});
//   itl.p99   // 29.836
//
// A percentile between two values is interpolated linearly, as numpy.percentile does by default:
// the p-th of n sorted values stands at position p/100 * (n - 1).
#ifndef ORRERY_TOOLS_BENCH_SUMMARY_H_
#define ORRERY_TOOLS_BENCH_SUMMARY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace orrery {

// All zero if there is no value.
struct Summary {
  int64_t count = 0;
  double mean = 0.0;
  double median = 0.0;
  double p90 = 0.0;
  double p99 = 0.0;
  double max = 0.0;
};

Summary Summarize(std::vector<double> values);

// `sorted` is ascending and not empty; `percent` is 0 to 100.
double Percentile(absl::Span<const double> sorted, double percent);

// 0 if there is no value.
double Median(std::vector<double> values);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SUMMARY_H_
