#include <algorithm>

#include "kernels/cpu/cpu_kernels.h"
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
  for (Scratch& scores : gate_scores_) scores.Get(params.num_experts);
  for (ExpertChoice& choice : choices_) choice.Reserve(params);
  // What a row takes, in multiply-adds.
  const int64_t work = int64_t{params.num_experts} * (64 + 4 * params.topk);
  Share(logits.num_rows * work, static_cast<int>(logits.num_rows),
        [&](int thread, int row, int end) {
          float* const scores = gate_scores_[thread].Get(0);
          for (; row < end; ++row) {
            int32_t* const ids = expert_ids + int64_t{row} * params.topk;
            Score(lanes_, logits.row(row), params, scores);
            if (forced_ids == nullptr) {
              choices_[thread].Choose(scores, params, ids);
            } else {
              CheckForcedIds(forced_ids + row * params.topk, params);
              std::copy_n(forced_ids + row * params.topk, params.topk, ids);
            }
            Weigh(scores, params, ids, weights + row * params.topk);
          }
        });
}

}  // namespace orrery
