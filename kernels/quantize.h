// Weights as codes of a few bits: value = code * scale, one scale per output and block of inputs.
//
//   const QuantFormat& int4 = *QuantFormatOf(WeightFormat::kInt4);
//   const uint16_t scale = QuantizeBlock(int4, values, codes);       // codes in -7..7
//
// Symmetric, to the nearest code (ties to even). The scale is a bf16, chosen so that the largest
// value of the block gets the largest code: largest value / largest code, rounded to bf16. A block of
// zeros has scale 0. Codes are exact in bf16, so products sum as they do for fp8: codes first, block
// by block, then the scale.
//
// What implementations share; callers say WeightFormat.
#ifndef ORRERY_KERNELS_QUANTIZE_H_
#define ORRERY_KERNELS_QUANTIZE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "kernels/kernels.h"

namespace orrery {

struct QuantFormat {
  int block_inputs = 0;
  int max_code = 0;
};
// Null for kStored.
const QuantFormat* QuantFormatOf(WeightFormat format);

// Returns the scale as bf16. As many codes as values.
uint16_t QuantizeBlock(const QuantFormat& format, absl::Span<const float> values, int8_t* codes);

struct QuantizedRow {
  std::vector<int8_t> codes;     // [num_inputs]
  std::vector<uint16_t> scales;  // [ceil(num_inputs / block_inputs)], bf16
};
// One output of a weight, whose own scales (fp8) are multiplied in first. INVALID_ARGUMENT for a
// value that is not finite.
absl::Status QuantizeOutput(const WeightSource& source, int output, const QuantFormat& format,
                            QuantizedRow& row);

}  // namespace orrery

#endif  // ORRERY_KERNELS_QUANTIZE_H_
