#include "rpc/monitoring/instruments.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace orrery {

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

HistogramReading Histogram::Read() const {
  HistogramReading reading = {.bounds = bounds_, .counts = {}, .sum = sum_};
  for (const std::atomic<uint64_t>& count : counts_) reading.counts.push_back(count);
  return reading;
}

std::vector<double> OneTwoFive(int first, int last) {
  std::vector<double> bounds;
  for (int exponent = first; exponent <= last; ++exponent) {
    for (const double digit : {1.0, 2.0, 5.0}) {
      if (exponent == last && digit > 1) break;
      // Dividing keeps 0.0002 what it is in a program's text.
      bounds.push_back(exponent < 0 ? digit / std::pow(10.0, -exponent)
                                    : digit * std::pow(10.0, exponent));
    }
  }
  return bounds;
}

std::vector<double> PowersOfTwo(int last) {
  std::vector<double> bounds;
  for (int exponent = 0; exponent <= last; ++exponent) bounds.push_back(std::exp2(exponent));
  return bounds;
}

}  // namespace orrery
