// With how many threads, and on which processors, the cpu kernels compute.
#ifndef ORRERY_KERNELS_CPU_CPU_THREADS_H_
#define ORRERY_KERNELS_CPU_CPU_THREADS_H_

#include <vector>

namespace orrery {

struct CpuThreads {
  int num_threads = 1;  // the caller included
  std::vector<int> cpus =
      {};  // that they are pinned to, in their order; empty: none. See thread_pool.h
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_CPU_THREADS_H_
