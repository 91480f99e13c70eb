// Weights and rows of any shape, made of noise. The same seed gives the same noise.
//
//   const SyntheticWeight weight({.dtype = DType::kFp8E4m3, .num_outputs = 704, .num_inputs = 2048}, /*seed=*/1);
//   kernels.MakeWeight(weight.source(), ProductFormat::kBf16);
#ifndef ORRERY_TOOLS_BENCH_KERNELS_SYNTHETIC_H_
#define ORRERY_TOOLS_BENCH_KERNELS_SYNTHETIC_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/dtypes.h"
#include "base/status.h"
#include "kernels/kernels.h"

namespace orrery {

// num values between -1 and 1.
std::vector<float> Noise(size_t num, uint64_t seed);
// The same, rounded.
std::vector<uint16_t> Bf16Noise(size_t num, uint64_t seed);
// The same times 448, as e4m3.
std::vector<uint8_t> Fp8Noise(size_t num, uint64_t seed);

// As tables call it: "bf16", "fp8", "int8".
std::string FormatName(DType dtype, WeightFormat held = WeightFormat::kStored);

// bf16, or fp8 with scales of blocks of 128 x 128 (the format of the R1 checkpoints).
class SyntheticWeight {
 public:
  struct Shape {
    DType dtype = DType::kBf16;
    int num_outputs = 0;
    int num_inputs = 0;
  };
  SyntheticWeight(const Shape& shape, uint64_t seed);
  // Points into this.
  WeightSource source() const;

 private:
  Shape shape_;
  std::vector<uint16_t> bf16_;  // one of the two
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
};

// Moves weights into one piece of memory, as a packed store has those of an expert or of a layer: then most of it
// is on large pages, however small each is. Errors: RESOURCE_EXHAUSTED; those of Weight::Image and MapWeight.
absl::Status LayTogether(Kernels& kernels, absl::Span<std::unique_ptr<Weight>* const> weights);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_SYNTHETIC_H_
