#include "tools/chaos/growth.h"

namespace orrery {

void Growth::Add(const UsageSnapshot& snapshot) {
  for (const auto& [name, usage] : snapshot.children) {
    Life& life = lives_[name].try_emplace(usage.pid, Life{snapshot.time, {}}).first->second;
    const absl::Duration age = snapshot.time - life.first_seen;
    if (age < warm_up_) continue;
    constexpr double kMiB = 1 << 20;
    life.samples.push_back(
        {.hours = absl::ToDoubleHours(age),
         .mib = static_cast<double>(usage.anonymous_bytes + usage.swapped_bytes) / kMiB,
         .descriptors = static_cast<double>(usage.num_descriptors)});
  }
}

std::map<std::string, Growth::Slope> Growth::Slopes() const {
  std::map<std::string, Slope> slopes;
  for (const auto& [name, lives] : lives_) {
    // Around the mean of each life.
    double time_squared = 0.0, time_mib = 0.0, time_descriptors = 0.0, hours_seen = 0.0;
    double longest_hours = 0.0;
    const Life* longest = nullptr;
    for (const auto& [pid, life] : lives) {
      if (life.samples.size() < 2) continue;
      Sample mean;
      const auto num = static_cast<double>(life.samples.size());
      for (const Sample& sample : life.samples) {
        mean.hours += sample.hours / num;
        mean.mib += sample.mib / num;
        mean.descriptors += sample.descriptors / num;
      }
      for (const Sample& sample : life.samples) {
        const double hours = sample.hours - mean.hours;
        time_squared += hours * hours;
        time_mib += hours * (sample.mib - mean.mib);
        time_descriptors += hours * (sample.descriptors - mean.descriptors);
      }
      const double hours_of_life = life.samples.back().hours - life.samples.front().hours;
      hours_seen += hours_of_life;
      if (hours_of_life <= longest_hours) continue;
      longest_hours = hours_of_life;
      longest = &life;
    }
    if (longest == nullptr) continue;
    slopes[name] = {.mib_per_hour = time_mib / time_squared,
                    .descriptors_per_hour = time_descriptors / time_squared,
                    .seen = absl::Hours(hours_seen),
                    .longest_life = longest->samples};
  }
  return slopes;
}

}  // namespace orrery
