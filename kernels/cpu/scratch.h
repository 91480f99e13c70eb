// Working memory that is kept between calls, so that kernels allocate nothing once they have seen
// their sizes.
#ifndef ORRERY_KERNELS_CPU_SCRATCH_H_
#define ORRERY_KERNELS_CPU_SCRATCH_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace orrery {

struct AlignedDelete {
  void operator()(void* memory) const { std::free(memory); }
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete>;

// Memory for num values of T on a 64-byte border; null if there is none. What is large lies on large
// pages if the system gives them when asked: a weight that streams by needs a new page every 4 KiB
// otherwise, and no hardware prefetches across their borders.
template <typename T>
AlignedArray<T> TryAllocateAligned(size_t num) {
  constexpr size_t kCacheLine = 64;
  constexpr size_t kLargePage = size_t{2} << 20;
  const size_t num_bytes = num * sizeof(T);
  const size_t alignment = num_bytes >= kLargePage ? kLargePage : kCacheLine;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, num_bytes) != 0) return nullptr;
  // Whole pages only: a last one that is half used would cost as much as a full one.
  if (alignment == kLargePage) madvise(memory, num_bytes / kLargePage * kLargePage, MADV_HUGEPAGE);
  return AlignedArray<T>(static_cast<T*>(memory));
}

// Grows, never shrinks. What was in it does not survive the next Get().
class Scratch {
 public:
  float* Get(size_t num) {
    if (num > size_) {
      memory_ = TryAllocateAligned<float>(num);
      if (memory_ == nullptr) throw std::bad_alloc();
      size_ = num;
    }
    return memory_.get();
  }

 private:
  AlignedArray<float> memory_;
  size_t size_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_SCRATCH_H_
