// The kernels of products: one pair for each kind of instruction, launched alike by matmul.cu.cc.
#ifndef ORRERY_KERNELS_CUDA_MATMUL_KERNELS_H_
#define ORRERY_KERNELS_CUDA_MATMUL_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/matmul_jobs.h"

namespace orrery {

// A kernel over jobs, and how many blocks of threads a job takes.
template <typename Job>
struct ProductKernel {
  void (*kernel)(const Job* jobs, int num_jobs);
  int64_t (*num_blocks)(const Job& job);
  int num_threads;
  size_t shared_bytes;
};

struct ProductKernels {
  ProductKernel<MatmulJob> matmul;
  ProductKernel<GateUpJob> gate_up;
};

// Of weights in any order but kFp8Swizzled. matmul_mma.cu.cc
ProductKernels MmaProducts();
// Of kFp8Swizzled; gate, up and inner too. matmul_wgmma.cu.cc
ProductKernels WgmmaProducts();

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_MATMUL_KERNELS_H_
