// Experts of a row: one warp per row, its scores in shared memory. Ties go to the lower index.
//
// Sums: exponentials of a lane's experts (lane, lane + 32, ...) in order, then SumOfWarp; the chosen
// scores in ascending order of their ids.

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/ptx.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// What a block keeps, in dynamic shared memory.
struct GateMemory {
  float* scores;        // [num_experts]
  float* choice;        // [num_experts] what is chosen by
  float* group_scores;  // [num_groups]
  int* taken;           // [num_experts]
  int* group_taken;     // [num_groups]

  __device__ explicit GateMemory(const GateParams& params) {
    scores = reinterpret_cast<float*>(ptx::DynamicSharedMemory());
    choice = scores + params.num_experts;
    group_scores = choice + params.num_experts;
    taken = reinterpret_cast<int*>(group_scores + params.num_groups);
    group_taken = taken + params.num_experts;
  }
  static size_t NumBytes(const GateParams& params) {
    return sizeof(float) * (3 * size_t{static_cast<unsigned>(params.num_experts)} +
                            2 * size_t{static_cast<unsigned>(params.num_groups)});
  }
};

__device__ void Score(const float* logits, const GateParams& params, float* scores) {
  if (params.score == GateParams::Score::kSigmoid) {
    for (int e = LaneOfThread(); e < params.num_experts; e += kWarpThreads) {
      scores[e] = Sigmoid(logits[e]);
    }
    return;
  }
  float max = -kInfinity;
  for (int e = LaneOfThread(); e < params.num_experts; e += kWarpThreads) {
    max = Larger(max, logits[e]);
  }
  max = MaxOfWarp(max);
  float sum = 0.0f;
  for (int e = LaneOfThread(); e < params.num_experts; e += kWarpThreads) {
    scores[e] = Exp(logits[e] - max);
    sum += scores[e];
  }
  sum = SumOfWarp(sum);
  for (int e = LaneOfThread(); e < params.num_experts; e += kWarpThreads) scores[e] /= sum;
}

__device__ float GroupScore(const float* choice, int group_size, GateParams::GroupScore kind) {
  float first = -kInfinity, second = -kInfinity;
  for (int i = 0; i < group_size; ++i) {
    second = Larger(second, choice[i] < first ? choice[i] : first);
    first = Larger(first, choice[i]);
  }
  const bool only_first = kind == GateParams::GroupScore::kMax || group_size == 1;
  return only_first ? first : first + second;
}

// Marks as taken the largest value that is not yet.
__device__ void TakeLargest(const float* values, int num, int* taken) {
  float best_value = -kInfinity;
  int best = num;  // none
  for (int i = LaneOfThread(); i < num; i += kWarpThreads) {
    if (taken[i] == 0 && (best == num || values[i] > best_value)) {
      best = i;
      best_value = values[i];
    }
  }
  for (int step = kWarpThreads / 2; step > 0; step /= 2) {
    const float other_value = __shfl_xor_sync(kAllLanes, best_value, step);
    const int other = __shfl_xor_sync(kAllLanes, best, step);
    if (other < num &&
        (best == num || other_value > best_value || (other_value == best_value && other < best))) {
      best = other;
      best_value = other_value;
    }
  }
  if (LaneOfThread() == 0) taken[best] = 1;
  __syncwarp();
}

__device__ void Choose(const GateParams& params, const GateMemory& memory) {
  const int group_size = params.num_experts / params.num_groups;
  for (int e = LaneOfThread(); e < params.num_experts; e += kWarpThreads) {
    const float value =
        params.bias == nullptr ? memory.scores[e] : memory.scores[e] + params.bias[e];
    // A NaN counts as the lowest value: the answer is of no use then, but still names distinct
    // experts.
    memory.choice[e] = value == value ? value : -kInfinity;
  }
  __syncwarp();
  for (int g = LaneOfThread(); g < params.num_groups; g += kWarpThreads) {
    memory.group_scores[g] =
        GroupScore(memory.choice + g * group_size, group_size, params.group_score);
    memory.group_taken[g] = 0;
  }
  __syncwarp();
  for (int n = 0; n < params.num_kept_groups; ++n) {
    TakeLargest(memory.group_scores, params.num_groups, memory.group_taken);
  }
  // Experts of the other groups are as good as taken; they are told apart by a 2.
  for (int e = LaneOfThread(); e < params.num_experts; e += kWarpThreads) {
    memory.taken[e] = memory.group_taken[e / group_size] != 0 ? 0 : 2;
  }
  __syncwarp();
  for (int n = 0; n < params.topk; ++n) {
    TakeLargest(memory.choice, params.num_experts, memory.taken);
  }
}

// The ids that were taken, ascending.
__device__ void WriteTaken(const GateParams& params, const int* taken, int32_t* ids) {
  int num_before = 0;
  for (int begin = 0; begin < params.num_experts; begin += kWarpThreads) {
    const int e = begin + LaneOfThread();
    const bool is_taken = e < params.num_experts && taken[e] == 1;
    const unsigned all = __ballot_sync(kAllLanes, is_taken);
    const unsigned lower = all & ((1u << LaneOfThread()) - 1);
    if (is_taken) ids[num_before + __popc(lower)] = e;
    num_before += __popc(all);
  }
  __syncwarp();
}

__global__ void GateRow(ConstMatrix logits, GateParams params, const int32_t* forced_ids,
                        int32_t* expert_ids, float* weights) {
  const GateMemory memory(params);
  const int64_t first = int64_t{blockIdx.x} * params.topk;
  int32_t* const ids = expert_ids + first;
  Score(logits.row(blockIdx.x), params, memory.scores);
  __syncwarp();
  if (forced_ids == nullptr) {
    Choose(params, memory);
    WriteTaken(params, memory.taken, ids);
  } else {
    for (int j = LaneOfThread(); j < params.topk; j += kWarpThreads) ids[j] = forced_ids[first + j];
    __syncwarp();
  }
  float sum = 0.0f;
  for (int j = 0; j < params.topk; ++j) sum += memory.scores[ids[j]];
  sum += 1e-20f;  // the official code's guard against a sum of zero
  for (int j = LaneOfThread(); j < params.topk; j += kWarpThreads) {
    const float score = memory.scores[ids[j]];
    weights[first + j] = (params.normalize ? score / sum : score) * params.weight_scale;
  }
}

}  // namespace

void CudaKernels::Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
                       int32_t* expert_ids, float* weights) {
  CheckGate(logits, params);
  Launch("Gate", GateRow, {logits.num_rows, kWarpThreads, GateMemory::NumBytes(params)}, logits,
         params, forced_ids, expert_ids, weights);
}

}  // namespace orrery
