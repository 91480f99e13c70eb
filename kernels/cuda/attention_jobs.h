// What the kernel of attention is told: AttendArgs with everything in device memory, in an array of the
// device. A block finds its job by first_block.
#ifndef ORRERY_KERNELS_CUDA_ATTENTION_JOBS_H_
#define ORRERY_KERNELS_CUDA_ATTENTION_JOBS_H_

#include <cstddef>
#include <cstdint>

#include "base/dtypes.h"
#include "base/matrix.h"

namespace orrery {

struct AttendJob {
  int64_t first_block = 0;
  ConstMatrix q;  // [num_rows, num_heads * key_dim]
  Matrix out;     // [num_rows, num_heads * value_dim]
  int num_heads = 0;
  int key_dim = 0;
  int key_offset = 0;
  int value_dim = 0;
  int value_offset = 0;
  float scale = 1.0f;
  DType format = DType::kBf16;
  const std::byte* cache = nullptr;
  int row_width = 0;
  const int32_t* block_ids = nullptr;
  int begin_position = 0;
  int first_position = 0;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_ATTENTION_JOBS_H_
