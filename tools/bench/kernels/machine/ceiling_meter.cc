#include "tools/bench/kernels/machine/ceiling_meter.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace orrery {
namespace {

using Clock = std::chrono::steady_clock;

// Of one measurement and thread: 2 ms at 8 GB/s.
constexpr size_t kReadBytes = size_t{16} << 20;
// 24 chains of 64 operations: 3 ms at 100 GFLOP/s.
constexpr int64_t kMultiplyRounds = 200'000;

size_t RoundUp(size_t num, size_t unit) { return (num + unit - 1) / unit * unit; }

}  // namespace

absl::StatusOr<const MachineLoops*> MachineLoopsFor(std::string_view variant) {
  if (variant == "scalar") return &ScalarMachineLoops();
  if (variant == "avx2") return &Avx2MachineLoops();
  if (variant == "avx512") return &Avx512MachineLoops();
  if (variant == "avx512bf16") return &Avx512Bf16MachineLoops();
  if (variant == "amx") return &AmxMachineLoops();
  return absl::UnimplementedError(absl::StrCat(
      "no loop measures the ceiling of the kernel variant \"", std::string(variant), "\""));
}

absl::StatusOr<std::unique_ptr<CeilingMeter>> CeilingMeter::Create(std::string_view variant,
                                                                   int64_t buffer_bytes) {
  ASSIGN_OR_RETURN(const MachineLoops* const loops, MachineLoopsFor(variant));
  std::unique_ptr<CeilingMeter> meter(new CeilingMeter(loops));
  const size_t size =
      RoundUp(static_cast<size_t>(std::max<int64_t>(buffer_bytes, 1)), kReadUnitBytes);
  ASSIGN_OR_RETURN(meter->buffer_, MappedBuffer::Create(size));
  return meter;
}

double CeilingMeter::TimeOfThreads(int num_threads, const std::function<void(int)>& run) {
  std::vector<Clock::time_point> begin(num_threads), end(num_threads);
  std::latch all_are_there(num_threads);
  const auto work = [&](int index) {
    all_are_there.arrive_and_wait();
    begin[index] = Clock::now();
    run(index);
    end[index] = Clock::now();
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < num_threads; ++i) threads.emplace_back(work, i);
  work(0);
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> time =
      *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
  return std::max(time.count(), 1e-9);
}

double CeilingMeter::ReadBytesPerSecond(int num_threads) {
  const size_t size = std::min(kReadBytes, buffer_.size());
  std::vector<size_t> offsets;
  for (int i = 0; i < num_threads; ++i) {
    if (next_ + size > buffer_.size()) next_ = 0;
    offsets.push_back(next_);
    next_ += size;
  }
  std::atomic<uint32_t> sink = 0;
  const double seconds = TimeOfThreads(
      num_threads, [&](int index) { sink += loops_.read(buffer_.data() + offsets[index], size); });
  return static_cast<double>(size) * num_threads / seconds;
}

double CeilingMeter::MultiplyFlopsPerSecond(int num_threads) {
  std::atomic<int> num_finite = 0;
  const double seconds = TimeOfThreads(num_threads, [&](int) {
    if (loops_.multiply(kMultiplyRounds) >= 0.0f) ++num_finite;
  });
  return loops_.flops_per_round * kMultiplyRounds * num_threads / seconds;
}

double AverageRate(absl::Duration enough, const std::function<double()>& measure) {
  const absl::Time begin = absl::Now();
  double seconds_per_work = 0.0;
  int num_samples = 0;
  do {
    seconds_per_work += 1.0 / measure();
    ++num_samples;
  } while (absl::Now() - begin < enough);
  return num_samples / seconds_per_work;
}

}  // namespace orrery
