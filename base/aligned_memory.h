// Memory for what streams by: on a 64-byte border, and on large pages where it is large.
//
//   AlignedArray<float> values = TryAllocateAligned<float>(num);
//   if (values == nullptr) return absl::ResourceExhaustedError(...);
#ifndef ORRERY_BASE_ALIGNED_MEMORY_H_
#define ORRERY_BASE_ALIGNED_MEMORY_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace orrery {

struct AlignedDelete {
  void operator()(void* memory) const { std::free(memory); }
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete>;

// Memory for num values of T on a border of at least `alignment` bytes, a power of two; null if there
// is none. What is large lies on large pages if the system gives them when asked: what streams by needs
// a new page every 4 KiB otherwise, and no hardware prefetches across their borders.
template <typename T>
AlignedArray<T> TryAllocateAligned(size_t num, size_t alignment = 64) {
  constexpr size_t kLargePage = size_t{2} << 20;
  const size_t num_bytes = num * sizeof(T);
  const bool is_large = num_bytes >= kLargePage;
  void* memory = nullptr;
  if (posix_memalign(&memory, is_large ? kLargePage : alignment, num_bytes) != 0) return nullptr;
  // Whole pages only: a last one that is half used would cost as much as a full one.
  if (is_large) madvise(memory, num_bytes / kLargePage * kLargePage, MADV_HUGEPAGE);
  return AlignedArray<T>(static_cast<T*>(memory));
}

}  // namespace orrery

#endif  // ORRERY_BASE_ALIGNED_MEMORY_H_
