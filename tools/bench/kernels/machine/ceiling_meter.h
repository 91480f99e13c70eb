// The ceilings of this machine, measured: how fast memory can be read, and how fast one instruction can multiply.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<CeilingMeter> meter, CeilingMeter::Create("avx2", 256 << 20));
//   double bytes_per_s = meter->ReadBytesPerSecond(/*num_threads=*/2);
//
// A measurement takes some milliseconds, so that it can be repeated between other measurements. Reading goes
// on where the last one ended, round a buffer that should be larger than the last-level cache twice over.
// Threads: one owner; each measurement starts threads of its own.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_MACHINE_CEILING_METER_H_
#define ORRERY_TOOLS_BENCH_KERNELS_MACHINE_CEILING_METER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/time/time.h"
#include "base/status.h"
#include "tools/bench/kernels/machine/machine_loops.h"
#include "tools/bench/kernels/machine/mapped_buffer.h"

namespace orrery {

// The loops of a variant of the kernels (Kernels::variant()). UNIMPLEMENTED for one that has none yet.
absl::StatusOr<const MachineLoops*> MachineLoopsFor(std::string_view variant);

// Of samples of equal work that are repeated for a while: bursts alone would slip between the turns of
// other processes.
double AverageRate(absl::Duration enough, const std::function<double()>& measure);

class CeilingMeter {
 public:
  // RESOURCE_EXHAUSTED if there is no memory for the buffer.
  static absl::StatusOr<std::unique_ptr<CeilingMeter>> Create(std::string_view variant,
                                                              int64_t buffer_bytes);

  const MachineLoops& loops() const { return loops_; }
  double ReadBytesPerSecond(int num_threads);
  double MultiplyFlopsPerSecond(int num_threads);

 private:
  explicit CeilingMeter(const MachineLoops* loops) : loops_(*loops) {}

  // Seconds from when all threads are there until the last has finished.
  static double TimeOfThreads(int num_threads, const std::function<void(int)>& run);

  const MachineLoops& loops_;
  MappedBuffer buffer_;
  size_t next_ = 0;  // where reading goes on
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_MACHINE_CEILING_METER_H_
