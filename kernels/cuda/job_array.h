// How kernels find their work and reach memory: jobs in an array, vectors of 16 bytes.
#ifndef ORRERY_KERNELS_CUDA_JOB_ARRAY_H_
#define ORRERY_KERNELS_CUDA_JOB_ARRAY_H_

#include <cuda_runtime.h>

#include <cstdint>

namespace orrery {

// Loaded and stored in one piece.
struct alignas(16) FourWords {
  uint32_t word[4];
};
struct alignas(16) FourFloats {
  float value[4];
};

// One launch runs many jobs, each with a range of blocks: this block's is the last job that begins at
// or before it.
template <typename Job>
__device__ const Job& JobOfBlock(const Job* jobs, int num_jobs) {
  int low = 0, high = num_jobs;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (jobs[middle].first_block <= blockIdx.x ? low : high) = middle;
  }
  return jobs[low];
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_JOB_ARRAY_H_
