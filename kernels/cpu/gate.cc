#include <algorithm>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

void Score(const LaneKernels& lanes, const float* logits, const GateParams& params, float* scores) {
  const int num = params.num_experts;
  if (params.score == GateParams::Score::kSigmoid) {
    lanes.sigmoid(logits, num, scores);
    return;
  }
  const float sum = lanes.sum_exp(logits, lanes.max_value(logits, num), num, scores);
  lanes.divide(scores, sum, num, scores);
}

void Weigh(const float* scores, const GateParams& params, const int32_t* ids, float* weights) {
  float sum = 0.0f;
  for (int j = 0; j < params.topk; ++j) sum += scores[ids[j]];
  sum += 1e-20f;  // the official code's guard against a sum of zero
  for (int j = 0; j < params.topk; ++j) {
    const float weight = params.normalize ? scores[ids[j]] / sum : scores[ids[j]];
    weights[j] = weight * params.weight_scale;
  }
}

}  // namespace

void CpuKernels::Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
                      int32_t* expert_ids, float* weights) {
  CheckGate(logits, params);
  const ScopedFlushDenormals flush;
  float* const scores = gate_scores_.Get(params.num_experts);
  for (int64_t r = 0; r < logits.num_rows; ++r) {
    int32_t* const ids = expert_ids + r * params.topk;
    Score(lanes_, logits.row(r), params, scores);
    if (forced_ids == nullptr) {
      choice_.Choose(scores, params, ids);
    } else {
      CheckForcedIds(forced_ids + r * params.topk, params);
      std::copy_n(forced_ids + r * params.topk, params.topk, ids);
    }
    Weigh(scores, params, ids, weights + r * params.topk);
  }
}

}  // namespace orrery
