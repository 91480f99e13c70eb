// Which GPU the stand-in is: what cudaGetDeviceProperties says, and so which instructions kernels/cuda chooses. All
// instructions are there in any case.
#ifndef ORRERY_TESTS_CUDA_GPU_H_
#define ORRERY_TESTS_CUDA_GPU_H_

#include <cstddef>

namespace cuda_on_host {

struct Gpu {
  int major = 0;
  int minor = 0;
  size_t shared_bytes = 0;  // that a block of threads may ask for
};
// With as much shared memory as every GPU from sm_80 on has: 99 KiB on sm_86. The stand-in is this one.
inline constexpr Gpu kSm80 = {8, 0, size_t{99} << 10};
inline constexpr Gpu kSm90 = {9, 0, size_t{227} << 10};

// From now on, for all threads. Not while any kernel or stream is in use.
void Become(const Gpu& gpu);

}  // namespace cuda_on_host

#endif  // ORRERY_TESTS_CUDA_GPU_H_
