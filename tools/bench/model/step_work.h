// What one step of a model has to read and to multiply, from the model's sizes alone.
//
//   const StepShape one_token = {.num_rows = 1, .num_sequences = 1, .context = 128, .num_logit_rows = 1};
//   LeastSeconds(WorkOfStep(config, WeightFormat::kStored, one_token), ceilings);
//
// Counted: weights, once, in the bytes that kernels hold them in; cached keys and values, once for each
// sequence; products and additions. Not counted: activations, norms, the gate's choice, the sampler.
// A MoE layer reads the experts that its rows are expected to visit if every choice is equally likely.
// Pure functions.
#ifndef ORRERY_TOOLS_BENCH_MODEL_STEP_WORK_H_
#define ORRERY_TOOLS_BENCH_MODEL_STEP_WORK_H_

#include <vector>

#include "absl/types/span.h"
#include "checkpoint/model_config.h"
#include "kernels/kernels.h"
#include "tools/bench/kernels/roofline.h"

namespace orrery {

struct StepShape {
  int num_rows = 0;
  int num_sequences = 0;
  double context = 0.0;  // positions that a row sees, on average
  int num_logit_rows = 0;
};

// One entry for each operation, in the order of the step: each waits for the one before it, so that the
// least time of the step is the sum of theirs. MLA models in bf16 or block-scaled fp8, KV cache in
// bf16.
std::vector<Work> WorkOfStep(const ModelConfig& config, WeightFormat ffn_weights,
                             const StepShape& shape);

double LeastSeconds(absl::Span<const Work> works, const Ceilings& ceilings);

// How many of num_experts are visited by num_rows rows that choose topk each, any set as likely as any
// other.
double ExpectedExperts(int num_experts, int topk, int num_rows);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_MODEL_STEP_WORK_H_
