// Working memory that is kept between calls, so that kernels allocate nothing once they have seen
// their sizes, or have been told them. (Told is better: grown piece by piece it leaves holes in the heap, and the
// process takes more and more with every record.)
#ifndef ORRERY_KERNELS_CPU_SCRATCH_H_
#define ORRERY_KERNELS_CPU_SCRATCH_H_

#include <algorithm>
#include <cstddef>
#include <new>

#include "base/aligned_memory.h"

namespace orrery {

// Grows, never shrinks. What was in it does not survive the next Get(), nor the next Reserve().
class Scratch {
 public:
  float* Get(size_t num) {
    if (!Reserve(num)) throw std::bad_alloc();
    return memory_.get();
  }

  // Room for so many, of which the first num_touched get their pages at once. False if there is no memory.
  bool Reserve(size_t num, size_t num_touched = 0) {
    if (num > size_) {
      memory_.reset();  // so that there are never both
      size_ = 0;
      memory_ = TryAllocateAligned<float>(num);
      if (memory_ == nullptr) return false;
      size_ = num;
    }
    std::fill_n(memory_.get(), std::min(num_touched, num), 0.0f);
    return true;
  }

 private:
  AlignedArray<float> memory_;
  size_t size_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_SCRATCH_H_
