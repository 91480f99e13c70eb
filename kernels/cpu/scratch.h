// Working memory that is kept between calls, so that kernels allocate nothing once they have seen
// their sizes.
#ifndef ORRERY_KERNELS_CPU_SCRATCH_H_
#define ORRERY_KERNELS_CPU_SCRATCH_H_

#include <cstddef>
#include <memory>
#include <new>

namespace orrery {

// Memory for num values of T on a 64-byte border; null if there is none.
struct AlignedDelete {
  void operator()(void* memory) const { ::operator delete (memory, std::align_val_t{64}); }
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete>;

template <typename T>
AlignedArray<T> TryAllocateAligned(size_t num) {
  return AlignedArray<T>(
      static_cast<T*>(::operator new (num * sizeof(T), std::align_val_t{64}, std::nothrow)));
}

// Grows, never shrinks. What was in it does not survive the next Get().
class Scratch {
 public:
  float* Get(size_t num) {
    if (num > size_) {
      memory_.reset(
          static_cast<float*>(::operator new (num * sizeof(float), std::align_val_t{64})));
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
