// What becomes of memory that this process frees.
//
//   int main(...) { KeepFreedMemory(); ... }
//
// The C library returns large blocks to the system when they are freed and takes new ones, page by
// page, for the next. A frame of rows is such a block, and four come and go per exchange: with the
// usual settings half of the time of an exchange of many rows went there.
//
// Most that is kept for later: kKeptBytes at the end of each heap.
#ifndef ORRERY_BASE_HEAP_H_
#define ORRERY_BASE_HEAP_H_

#include <cstddef>

namespace orrery {

inline constexpr size_t kKeptBytes = size_t{64} << 20;

// Once, before threads start.
void KeepFreedMemory();

}  // namespace orrery

#endif  // ORRERY_BASE_HEAP_H_
