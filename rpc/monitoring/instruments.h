// Counters and histograms for what no description holds, cheap enough for the middle of things.
//
//   Histogram step_seconds(OneTwoFive(-4, 2));      // bounds 0.0001, 0.0002, 0.0005, ... 100
//   step_seconds.Observe(0.0123);                   // some 20 ns
//   families.AddHistogram("orrery_attention_step_seconds", "...", step_seconds.Read());
//
// Not for single rows: one observation per step, per frame, per token of a client at the most.
//
// Threads: any, without locks. What is read while others write may lack what is being written.
#ifndef ORRERY_RPC_MONITORING_INSTRUMENTS_H_
#define ORRERY_RPC_MONITORING_INSTRUMENTS_H_

#include <atomic>
#include <cstdint>
#include <vector>

namespace orrery {

class Counter {
 public:
  void Add(int64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_ = 0;
};

struct HistogramReading {
  std::vector<double> bounds;  // ascending
  std::vector<uint64_t>
      counts;  // [bounds + 1] observations up to each bound and above the one before; the rest
  double sum = 0;
};

class Histogram {
 public:
  // Upper bounds of the buckets, ascending. One more takes what is above.
  explicit Histogram(std::vector<double> bounds);
  void Observe(double value);
  HistogramReading Read() const;

 private:
  const std::vector<double> bounds_;
  std::vector<std::atomic<uint64_t>> counts_;
  std::atomic<double> sum_ = 0;
};

// 1, 2 and 5 times the powers of ten from 10^first up to 10^last, that one included.
std::vector<double> OneTwoFive(int first, int last);
// The powers of two from 1 to 2^last.
std::vector<double> PowersOfTwo(int last);

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_INSTRUMENTS_H_
