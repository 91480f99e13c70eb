// What becomes of memory that this process frees.
//
//   int main(...) { KeepFreedMemory(); ... }
//
// The C library returns large blocks to the system when they are freed and takes new ones, page by
// page, for the next. A frame of rows is such a block, and four come and go per exchange: with the
// usual settings half of the time of an exchange of many rows went there.
//
// Most that is kept for later: kKeptBytes at the end of each of kMaxHeaps heaps. (The C library would make eight heaps
// for each processor. A block goes back to the heap that it came from, so with many of them as much memory
// as was ever in use at a time may lie idle in each; threads that share one wait for each other for some tens of
// nanoseconds.)
#ifndef ORRERY_BASE_HEAP_H_
#define ORRERY_BASE_HEAP_H_

#include <algorithm>
#include <cstddef>

namespace orrery {

inline constexpr size_t kKeptBytes = size_t{64} << 20;
inline constexpr int kMaxHeaps = 8;

// Once, before threads start.
void KeepFreedMemory();

// What heaps keep at most beside what is in use, in a process that has churning_bytes of what comes and goes at a
// time: as much again, and never more than all of them may.
constexpr size_t KeptBytesAtMost(size_t churning_bytes) {
  return std::min(churning_bytes, kMaxHeaps * kKeptBytes);
}

}  // namespace orrery

#endif  // ORRERY_BASE_HEAP_H_
