#include "base/heap.h"

#include <malloc.h>
#include <time.h>

namespace orrery {
namespace {

// Blocks from here on are mapped one by one, and returned when they are freed: weights and caches.
constexpr size_t kMappedBytes = size_t{8} << 20;

// Of the processor, since the last time: an idle process takes that in minutes.
constexpr double kIdleSeconds = 0.05;

double ProcessorSeconds() {
  timespec used = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return used.tv_sec + 1e-9 * used.tv_nsec;
}

}  // namespace

void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(kMappedBytes));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(kKeptBytes));
  mallopt(M_ARENA_MAX, 1);
}

void GiveBackFreedMemory() {
  static double seconds_before = 0.0;
  if (ProcessorSeconds() - seconds_before < kIdleSeconds) return;
  malloc_trim(0);
  seconds_before = ProcessorSeconds();
}

}  // namespace orrery
