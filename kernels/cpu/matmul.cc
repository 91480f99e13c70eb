#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Rows that go through a weight together. Enough to read each panel from memory once per chunk and
// then from the cache (64 rows of 7168 f32 are 1.8 MB), few enough to bound the scratch memory of a
// long prompt.
constexpr int64_t kMatmulRows = 64;

const PackedWeight& Own(const Weight& weight) {
  const auto* own = dynamic_cast<const PackedWeight*>(&weight);
  ORRERY_CHECK(own != nullptr) << "a weight of another implementation";
  return *own;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> CpuKernels::MakeWeight(const WeightSource& source,
                                                               ProductFormat format) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedWeight> weight, PackedWeight::Make(source, format));
  return weight;
}

void CpuKernels::MatmulChunk(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  const PackedWeight& packed = Own(weight);
  const int padded = packed.padded_inputs();
  float* const prepared = prepared_.Get(x.num_rows * padded);
  for (int64_t r = 0; r < x.num_rows; ++r) {
    lanes_.prepare_row(x.row(r), static_cast<int>(x.num_cols), padded, packed.rounds_activations(),
                       prepared + r * padded);
  }
  MatmulJob job = {};
  packed.Describe(job);
  job.x = prepared;
  job.x_stride = padded;
  job.num_rows = x.num_rows;
  job.bias = bias;
  job.out = out.data;
  job.out_stride = out.stride;
  lanes_.matmul(job);
}

void CpuKernels::Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  CheckMatmul(x, weight, out);
  const ScopedFlushDenormals flush;
  for (int64_t r = 0; r < x.num_rows; r += kMatmulRows) {
    const int64_t num = std::min(kMatmulRows, x.num_rows - r);
    MatmulChunk(x.Rows(r, num), weight, bias, out.Rows(r, num));
  }
}

void CpuKernels::FeedForward(ConstMatrix x, const Weight& gate, const Weight& up,
                             const Weight& down, Matrix out) {
  CheckFeedForward(x, gate, up, down, out);
  const ScopedFlushDenormals flush;
  const int width = gate.num_outputs();
  for (int64_t r = 0; r < x.num_rows; r += kMatmulRows) {
    const int64_t num = std::min(kMatmulRows, x.num_rows - r);
    const Matrix gated(gated_.Get(num * width), num, width);
    const Matrix raised(raised_.Get(num * width), num, width);
    MatmulChunk(x.Rows(r, num), gate, nullptr, gated);
    MatmulChunk(x.Rows(r, num), up, nullptr, raised);
    for (int64_t i = 0; i < num; ++i) lanes_.silu_times(gated.row(i), raised.row(i), width);
    MatmulChunk(gated, down, nullptr, out.Rows(r, num));
  }
}

}  // namespace orrery
