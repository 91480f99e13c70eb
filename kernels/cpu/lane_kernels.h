// The loops that run in vector lanes, as a table of functions: one table per instruction set, with
// equal bits.
//
//   const LaneKernels& lanes = Avx512LaneKernels();
//   lanes.prepare_row(x, num_inputs, padded_inputs, round_to_bf16, prepared);
//   lanes.matmul(job);
//
// Plain types only: the tables come from files with compiler flags of their own (see lanes_scalar.h
// for the rule). Call them with denormals flushed (ScopedFlushDenormals). Nothing is checked here;
// cpu_kernels.h does.
#ifndef ORRERY_KERNELS_CPU_LANE_KERNELS_H_
#define ORRERY_KERNELS_CPU_LANE_KERNELS_H_

#include <stdint.h>

namespace orrery {

// Outputs of a panel, heads of a group: the number of lanes.
inline constexpr int kVectorLanes = 16;
// Inputs whose products are summed together before they meet the accumulator (two chains of 16).
inline constexpr int kSumBlock = 32;

// out = x * weight^T + bias for rows that prepare_row has made. Panels: see packed_weight.h.
struct MatmulJob {
  const float* x;  // [num_rows, num_inputs]
  int64_t x_stride;
  int64_t num_rows;
  int num_inputs;      // padded to kSumBlock
  const void* panels;  // uint16_t when is_bf16, else float
  bool is_bf16;
  int num_outputs;
  const float* scales;  // [., scales_per_row]
  int scales_per_row;
  int scale_block_inputs;   // multiple of kSumBlock
  int scale_block_outputs;  // multiple of kVectorLanes
  const float* bias;        // [num_outputs] or null
  float* out;               // [num_rows, num_outputs]
  int64_t out_stride;
};

// One row of queries meets the (at most 64) tokens of one cache block that it sees.
struct AttendBlockJob {
  const float* q;  // [num_groups][key_dim][16 heads], heads and key_dim padded with zeros
  int num_heads;
  int key_dim;          // padded to kSumBlock
  const float* keys;    // [num_tokens, key_dim]
  int value_dim;        // padded to kVectorLanes
  const float* values;  // [num_tokens, value_dim]
  int num_tokens;
  float scale;
  bool round_weights;  // softmax weights to bf16 before they meet the values
  // The state of the online softmax, updated.
  float* max;      // [num_groups * 16], starts at -infinity
  float* sum;      // [num_groups * 16], starts at 0
  float* context;  // [num_heads, value_dim], starts at 0
  float* scratch;  // [64 * 16 + 16]
};

struct LaneKernels {
  const char* name;

  // to[0, padded): from, rounded to bf16 if asked, then zeros. num <= padded, padded a multiple of
  // 16.
  void (*prepare_row)(const float* from, int num, int padded, bool round_to_bf16, float* to);
  // The same from bf16 values.
  void (*widen_row)(const uint16_t* from, int num, int padded, float* to);
  void (*round_row)(const float* from, int num, uint16_t* to);
  void (*matmul)(const MatmulJob& job);
  // gate = silu(gate) * up.
  void (*silu_times)(float* gate, const float* up, int num);
  void (*rms_norm)(const float* x, const float* weight, float eps, int num, float* out);
  void (*attend_block)(const AttendBlockJob& job);
  // out = context / sum, head by head.
  void (*divide)(const float* from, float divisor, int num, float* to);
  // x += y;  x += factor * y (fused).
  void (*add)(const float* y, int num, float* x);
  void (*add_times)(const float* y, float factor, int num, float* x);
  void (*sigmoid)(const float* x, int num, float* out);
  float (*max_value)(const float* x, int num);
  // Sum of exp(x - max), whose terms go to out unless it is null.
  float (*sum_exp)(const float* x, float max, int num, float* out);
  // out = (x - a) - b.
  void (*subtract)(const float* x, float a, float b, int num, float* out);
};

const LaneKernels& ScalarLaneKernels();
const LaneKernels& Avx2LaneKernels();    // only on a processor with AVX2 and FMA
const LaneKernels& Avx512LaneKernels();  // only on a processor with AVX512F

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_LANE_KERNELS_H_
