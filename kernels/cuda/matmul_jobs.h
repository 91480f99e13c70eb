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

// How values of a weight are written: see tiled_weight.h. kFp8Swizzled: the codes of kFp8 in the order of wgmma.
enum class CodeFormat : int32_t { kF32, kBf16, kFp8, kInt8, kInt4, kFp8Swizzled };

// 0 for what is no format.
constexpr int BitsOfCode(CodeFormat format) {
  switch (format) {
    case CodeFormat::kF32:
      return 32;
    case CodeFormat::kBf16:
      return 16;
    case CodeFormat::kFp8:
    case CodeFormat::kInt8:
    case CodeFormat::kFp8Swizzled:
      return 8;
    case CodeFormat::kInt4:
      return 4;
  }
  return 0;
}

// How rows lie that a product reads: [num_rows, padded inputs] of f32 or bf16, zeros behind the end of a row.
//
//   kCodesAsBf16   the e4m3 codes of fp8 products as the numbers that they are, which bf16 holds exactly
//   kSwizzled      these codes as wgmma reads them: for each 128 inputs a slab (swizzle.h) of all rows
enum class OperandForm : int32_t { kF32, kBf16, kCodesAsBf16, kSwizzled };

constexpr int BytesOfValue(OperandForm form) {
  return form == OperandForm::kF32 ? 4 : form == OperandForm::kSwizzled ? 1 : 2;
}
constexpr bool HasScales(OperandForm form) {
  return form == OperandForm::kCodesAsBf16 || form == OperandForm::kSwizzled;
}

// Rows come in whole eights; what lies behind the last one is multiplied too, and thrown away.
inline constexpr int kOperandRows = 8;

struct Operand {
  std::byte* values = nullptr;
  float* scales = nullptr;  // [groups of 128 inputs][padded_rows], where the form has any
  OperandForm form = OperandForm::kF32;
  int padded_cols = 0;
  int64_t padded_rows = 0;
};

struct DeviceWeight {
  const std::byte* codes = nullptr;
  const std::byte* scales = nullptr;
  CodeFormat format = CodeFormat::kF32;
  OperandForm form =
      OperandForm::kF32;  // of the rows that it is multiplied with; but for kF32 by tensor cores
  int num_outputs = 0;
  int num_tiles = 0;  // of 16 outputs; kFp8Swizzled: of 64
  int num_steps = 0;
  int scale_block_outputs = 0;
  int block_steps = 0;  // summed apart, then scaled
  int num_blocks = 0;

  constexpr int padded_inputs() const { return num_steps * kStepInputs; }
};

struct OperandJob {
  int64_t first_block = 0;  // one for each row
  ConstMatrix x;
  Operand to;
};

struct MatmulJob {
  int64_t first_block = 0;
  DeviceWeight weight;
  Operand operand;
  const float* bias = nullptr;
  Matrix out;
};

// inner = silu(gate(x)) * up(x).
struct GateUpJob {
  int64_t first_block = 0;
  DeviceWeight gate;
  DeviceWeight up;
  Operand gate_operand;
  Operand up_operand;
  int64_t num_rows = 0;
  Operand inner;  // what down is multiplied with; or, before its codes can be made, f32
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_MATMUL_JOBS_H_
