// What `orrery bench kernels` measures, in groups. Each makes its weights when something of it is wanted, and frees
// them before the next.
//
//   RETURN_IF_ERROR(MeasureFeedForward(preset, meter));
//
// Errors: RESOURCE_EXHAUSTED without memory for the weights.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_CASES_H_
#define ORRERY_TOOLS_BENCH_KERNELS_CASES_H_

#include "base/status.h"
#include "tools/bench/kernels/kernel_meter.h"
#include "tools/bench/kernels/preset.h"

namespace orrery {

// Experts in bf16, fp8, int8 and int4, and in fp8 with fp8 activations (w8a8): a call computes a few of them, the next call the next ones.
absl::Status MeasureFeedForward(const KernelPreset& preset, KernelMeter& meter);
// The matrices of attention, and the head.
absl::Status MeasureProjections(const KernelPreset& preset, KernelMeter& meter);
// Absorbed MLA over a bf16 cache: decoding, and a chunk of a prompt.
absl::Status MeasureAttention(const KernelPreset& preset, KernelMeter& meter);
// Norm, gate, encoding and decoding of rows, combine, log-probabilities: one pass over their rows.
absl::Status MeasureRowKernels(const KernelPreset& preset, KernelMeter& meter);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_CASES_H_
