#include "base/heap.h"

#include <malloc.h>

namespace orrery {
namespace {

// Blocks from here on are mapped one by one, and returned when they are freed: weights and caches.
constexpr size_t kMappedBytes = size_t{8} << 20;

}  // namespace

void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(kMappedBytes));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(kKeptBytes));
  mallopt(M_ARENA_MAX, 1);
}

void GiveBackFreedMemory() { malloc_trim(0); }

}  // namespace orrery
