// Working memory that is kept between calls, so that kernels allocate nothing once they have seen
// their sizes.
#ifndef ORRERY_KERNELS_CPU_SCRATCH_H_
#define ORRERY_KERNELS_CPU_SCRATCH_H_

#include <cstddef>
#include <new>

#include "base/aligned_memory.h"

namespace orrery {

// Grows, never shrinks. What was in it does not survive the next Get().
class Scratch {
 public:
  float* Get(size_t num) {
    if (num > size_) {
      memory_.reset();  // so that there are never both
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
