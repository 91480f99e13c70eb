// What the kernels of products are told: plain structs, which lie in an array of the device. One launch
// runs many jobs; a block finds its own by first_block.
#ifndef ORRERY_KERNELS_CUDA_MATMUL_JOBS_H_
#define ORRERY_KERNELS_CUDA_MATMUL_JOBS_H_

#include <cstddef>
#include <cstdint>

#include "base/matrix.h"

namespace orrery {

inline constexpr int kTileOutputs = 16;  // rows of an mma
inline constexpr int kStepInputs = 32;   // columns of two
inline constexpr int kLaneInputs = 8;    // of a step
inline constexpr int kProductWarps = 4;  // each sums a part of the inputs

// How values of a weight are written: see tiled_weight.h.
enum class CodeFormat : int32_t { kF32, kBf16, kFp8, kInt8, kInt4 };

// 0 for what is no format.
constexpr int BitsOfCode(CodeFormat format) {
  switch (format) {
    case CodeFormat::kF32:
      return 32;
    case CodeFormat::kBf16:
      return 16;
    case CodeFormat::kFp8:
    case CodeFormat::kInt8:
      return 8;
    case CodeFormat::kInt4:
      return 4;
  }
  return 0;
}

struct DeviceWeight {
  const std::byte* codes = nullptr;
  const std::byte* scales = nullptr;
  CodeFormat format = CodeFormat::kF32;
  bool rounds = false;  // activations to bf16: then tensor cores multiply
  int num_outputs = 0;
  int num_tiles = 0;
  int num_steps = 0;
  int scale_block_outputs = 0;
  int block_steps = 0;  // summed apart, then scaled
  int num_blocks = 0;
};

// Rows as a product reads them: bf16 or f32 as the weight wants, [num_rows, num_steps * 32], zeros
// behind the end of a row.
struct OperandJob {
  int64_t first_block = 0;  // one for each row
  ConstMatrix x;
  std::byte* to = nullptr;
  bool rounds = false;
  int padded_cols = 0;
};

struct MatmulJob {
  int64_t first_block = 0;
  DeviceWeight weight;
  const std::byte* operand = nullptr;
  const float* bias = nullptr;
  Matrix out;
};

// inner = silu(gate(x)) * up(x), as an operand of down.
struct GateUpJob {
  int64_t first_block = 0;
  DeviceWeight gate;
  DeviceWeight up;
  const std::byte* gate_operand = nullptr;
  const std::byte* up_operand = nullptr;
  int64_t num_rows = 0;
  std::byte* inner = nullptr;
  bool rounds = false;
  int padded_cols = 0;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_MATMUL_JOBS_H_
