#include <algorithm>
#include <typeinfo>

#include "base/check.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Rows that go through a weight together. Enough that products take longer than reading the weight
// from memory and decoding it, few enough that a chunk of their inputs (matmul-inl.h) stays in the
// cache, and to bound the scratch memory of a long prompt.
constexpr int64_t kMatmulRows = 256;

const PackedWeight& Own(const Weight& weight) {
  ORRERY_CHECK(typeid(weight) == typeid(PackedWeight)) << "a weight of another implementation";
  return static_cast<const PackedWeight&>(weight);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> CpuKernels::MakeWeight(const WeightSource& source,
                                                               ProductFormat format,
                                                               WeightFormat held) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedWeight> weight, PackedWeight::Make(source, format, held));
  return weight;
}

void CpuKernels::Prepare(const ConstMatrix& x, const PackedWeight& weight) {
  const int padded = weight.padded_inputs();
  lanes_.prepare_rows({.from = x.data,
                       .from_stride = x.stride,
                       .num_rows = x.num_rows,
                       .num = static_cast<int>(x.num_cols),
                       .padded = padded,
                       .round = weight.rounds_activations(),
                       .to = prepared_.Get(x.num_rows * padded)});
}

void CpuKernels::MultiplyPrepared(const PackedWeight& weight, const float* bias,
                                  const Matrix& out) {
  MatmulJob job = {};
  weight.Describe(job);
  job.x = prepared_.Get(0);
  job.is_rounded = weight.rounds_activations();
  job.num_rows = out.num_rows;
  job.bias = bias;
  job.decoded = decoded_.Get(weight.num_decoded());
  job.out = out.data;
  job.out_stride = out.stride;
  lanes_.matmul(job);
}

void CpuKernels::Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  CheckMatmul(x, weight, out);
  const ScopedFlushDenormals flush;
  const PackedWeight& packed = Own(weight);
  for (int64_t r = 0; r < x.num_rows; r += kMatmulRows) {
    const int64_t num = std::min(kMatmulRows, x.num_rows - r);
    Prepare(x.Rows(r, num), packed);
    MultiplyPrepared(packed, bias, out.Rows(r, num));
  }
}

void CpuKernels::MatmulHeads(ConstMatrix x, int x_head_stride,
                             absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                             int out_head_stride) {
  CheckMatmulHeads(x, x_head_stride, weights, out, out_head_stride);
  const ScopedFlushDenormals flush;
  for (int64_t r = 0; r < x.num_rows; r += kMatmulRows) {
    const int64_t num = std::min(kMatmulRows, x.num_rows - r);
    for (size_t h = 0; h < weights.size(); ++h) {
      const PackedWeight& packed = Own(*weights[h]);
      Prepare({x.row(r) + h * x_head_stride, num, packed.num_inputs(), x.stride}, packed);
      MultiplyPrepared(packed, nullptr,
                       {out.row(r) + h * out_head_stride, num, packed.num_outputs(), out.stride});
    }
  }
}

void CpuKernels::FeedForward(ConstMatrix x, const Weight& gate, const Weight& up,
                             const Weight& down, Matrix out) {
  CheckFeedForward(x, gate, up, down, out);
  const ScopedFlushDenormals flush;
  const PackedWeight& packed_gate = Own(gate);
  const PackedWeight& packed_up = Own(up);
  const PackedWeight& packed_down = Own(down);
  const bool share_rows = packed_gate.rounds_activations() == packed_up.rounds_activations();
  const int width = gate.num_outputs();
  for (int64_t r = 0; r < x.num_rows; r += kMatmulRows) {
    const int64_t num = std::min(kMatmulRows, x.num_rows - r);
    const Matrix gated(gated_.Get(num * width), num, width);
    const Matrix raised(raised_.Get(num * width), num, width);
    Prepare(x.Rows(r, num), packed_gate);
    MultiplyPrepared(packed_gate, nullptr, gated);
    if (!share_rows) Prepare(x.Rows(r, num), packed_up);
    MultiplyPrepared(packed_up, nullptr, raised);
    lanes_.silu_times(gated.data, raised.data, static_cast<int>(num * width));
    Prepare(gated, packed_down);
    MultiplyPrepared(packed_down, nullptr, out.Rows(r, num));
  }
}

}  // namespace orrery
