// What becomes of memory that this process frees.
//
//   int main(...) {
//     KeepFreedMemory();
//     ...
//     while (!stop.WaitFor(kGiveBackInterval)) GiveBackFreedMemory();
//
// The C library returns large blocks to the system when they are freed and takes new ones, page by
// page, for the next. A frame of rows is such a block, and four come and go per exchange: with the
// usual settings half of the time of an exchange of many rows went there.
//
// Most that is kept for later: kKeptBytes at the end of the heap. There is one. (The C library would make eight for each
// processor. A block goes back to the heap that it came from, so with many of them as much memory as was ever in use
// at a time may lie idle in each; threads that share one wait for each other for some tens of nanoseconds.)
//
// What lies idle all the same, behind a rare peak or between small blocks that live long, is given back now and then:
// a process that runs for months would only ever grow otherwise.
#ifndef ORRERY_BASE_HEAP_H_
#define ORRERY_BASE_HEAP_H_

#include <algorithm>
#include <cstddef>

#include "absl/time/time.h"

namespace orrery {

inline constexpr size_t kKeptBytes = size_t{512} << 20;

// Rare enough to cost nothing: pages that are taken again are some milliseconds of work. As often as other
// allocators do it (jemalloc: after 10 s).
inline constexpr absl::Duration kGiveBackInterval = absl::Seconds(10);

// Once, before threads start.
void KeepFreedMemory();
// All of the heap in which nothing is in use. Threads that allocate may wait meanwhile: some milliseconds for some
// thousands of holes.
void GiveBackFreedMemory();

// What the heap keeps at most beside what is in use, in a process that has churning_bytes of what comes and goes at a
// time: as much again.
constexpr size_t KeptBytesAtMost(size_t churning_bytes) {
  return std::min(churning_bytes, kKeptBytes);
}

}  // namespace orrery

#endif  // ORRERY_BASE_HEAP_H_
