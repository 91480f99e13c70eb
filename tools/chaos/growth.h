// Whether processes grow while a cluster is harmed for hours: what each takes, as a slope over time.
//
//   Growth growth(/*warm_up=*/absl::Minutes(2));
//   growth.Add(TakeUsageSnapshot());          // again and again
//   for (const auto& [name, slope] : growth.Slopes()) ...   // "expert-2": 0.3 MiB and 0.1 descriptors per hour
//
// A process that is killed is another one afterwards, and may take another amount. So the slope of a name is
// one line through all its lives, which all have the same slope and each its own height (least squares).
// The warm-up of each life is left out.
//
// Pure.
#ifndef ORRERY_TOOLS_CHAOS_GROWTH_H_
#define ORRERY_TOOLS_CHAOS_GROWTH_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tools/bench/process_usage.h"

namespace orrery {

class Growth {
 public:
  struct Sample {
    double hours = 0.0;  // since its life was first seen
    double mib = 0.0;
    double descriptors = 0.0;
  };
  struct Slope {
    double mib_per_hour = 0.0;          // anonymous memory, swapped or not
    double descriptors_per_hour = 0.0;  // open files and sockets
    absl::Duration seen;  // from the first to the last sample of a life, all lives together
    std::vector<Sample> longest_life;  // of these, the longest; its samples
    absl::Duration longest() const {
      return absl::Hours(longest_life.back().hours - longest_life.front().hours);
    }
  };

  explicit Growth(absl::Duration warm_up) : warm_up_(warm_up) {}

  void Add(const UsageSnapshot& snapshot);
  // By name; those that were seen at two times of one life at least.
  std::map<std::string, Slope> Slopes() const;

 private:
  struct Life {
    absl::Time first_seen;
    std::vector<Sample> samples;  // after the warm-up
  };

  const absl::Duration warm_up_;
  std::map<std::string, std::map<int, Life>> lives_;  // by name and process
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_GROWTH_H_
