// Treats denormals as zeros, in operands and in results, while in scope. Every entry of CpuKernels
// has one.
//
// It changes the thread's MXCSR, and puts back what was there.
#ifndef ORRERY_KERNELS_CPU_FLUSH_DENORMALS_H_
#define ORRERY_KERNELS_CPU_FLUSH_DENORMALS_H_

#include <xmmintrin.h>

namespace orrery {

class ScopedFlushDenormals {
 public:
  ScopedFlushDenormals() : before_(_mm_getcsr()) {
    _mm_setcsr(before_ | kFlushResults | kOperandsAreZero);
  }
  ~ScopedFlushDenormals() { _mm_setcsr(before_); }
  ScopedFlushDenormals(const ScopedFlushDenormals&) = delete;
  ScopedFlushDenormals& operator=(const ScopedFlushDenormals&) = delete;

 private:
  static constexpr unsigned kFlushResults = 1u << 15;    // FTZ
  static constexpr unsigned kOperandsAreZero = 1u << 6;  // DAZ
  unsigned before_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_FLUSH_DENORMALS_H_
