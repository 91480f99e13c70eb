// The loops that run in vector lanes, as a table of functions: one table per instruction set, with
// equal bits.
//
//   const LaneKernels& lanes = Avx512LaneKernels();
//   lanes.prepare_rows({.from = x, ..., .to = prepared});
//   lanes.matmul({.x = prepared, ...});
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
// Panels that are decoded at a time, for many rows.
inline constexpr int kMaxDecodedPanels = 2;
// Rows of a product, at most.
inline constexpr int kMaxProductRows = 256;
// Tokens of a block of the cache.
inline constexpr int kBlockTokens = 64;

// Rows as activations of a product, in the form that the lanes like (operands-inl.h): rounded to
// bf16 if asked, then zeros.
struct PrepareJob {
  const float* from;  // [num_rows, num]
  int64_t from_stride;
  int64_t num_rows;
  int num;
  int padded;  // to a multiple of kSumBlock
  bool round;
  float* to;  // [num_rows, padded]
  int64_t to_stride;
  int64_t num_product_rows;  // MatmulJob::num_rows: which form it is to be
};

// What the panels of a weight hold.
enum class PanelFormat { kF32, kBf16, kFp8, kInt8, kInt4 };

// What a product with tile registers keeps in memory meanwhile (tile_matmul-inl.h).
struct TileMemory {
  static constexpr int kTileRows = 16;
  static constexpr int kTileValues = kTileRows * kVectorLanes;
  // Those of a tile of rows with two panels, a register after the other.
  static constexpr int kSums = 2 * kTileValues;
  // A line more, so that those of two tiles of rows do not lie 2 KiB apart.
  static constexpr int kSumsStride = kSums + kVectorLanes;
  // Of two panels that are multiplied at once, 32 KiB of bf16: they stay in an L1 cache of 48.
  static constexpr int kPanelValues = 32 << 9;
  // So often some panels meet what the L2 cache holds of all rows.
  static constexpr int kTurns = 4;

  // bf16: what is multiplied, and what comes next.
  alignas(64) uint16_t panels[2][kPanelValues];
  // Sums that wait for the inputs behind.
  alignas(64) float waiting[kTurns][kMaxProductRows / kTileRows][kSumsStride];
  // Sums on their way to the results, by turns.
  alignas(64) float leaving[2][kSums];
};

// out = x * weight^T + bias for rows that prepare_rows has made. Up to 15 rows behind the last one are
// read, and may hold anything. Panels: see packed_weight.h.
struct MatmulJob {
  const float* x;  // [num_rows, num_inputs]
  int64_t x_stride;
  bool is_rounded;
  int64_t num_rows;  // at most kMaxProductRows
  int num_inputs;    // padded to kSumBlock
  PanelFormat format;
  const void* panels;  // float, uint16_t or, for codes, uint8_t
  int num_outputs;
  int panel_begin;  // of the panels, those to multiply with; panel_end may lie behind the last
  int panel_end;
  const float* scales;            // [., scales_per_row]; or null:
  const uint16_t* output_scales;  // bf16 [panels][scales_per_row][16]
  int scales_per_row;
  int scale_block_inputs;   // multiple of kSumBlock
  int scale_block_outputs;  // multiple of kVectorLanes
  const float* bias;        // [num_outputs] or null
  float* decoded;  // memory for kMaxDecodedPanels panels, [num_inputs][16] each, or TileMemory
  float* out;      // [num_rows, num_outputs]
  int64_t out_stride;
};

// What attend_block multiplies: queries and values as panels, keys as rows. Queries and keys are the
// outputs of a product with each other, tokens are the inputs that meet the values. They become:
//   queries  [num_rows / 16, rounded up][dim padded to kSumBlock][16]
//   keys     [num_rows][dim padded to kSumBlock]
//   values   [dim / 16, rounded up][64 tokens][16]; zeros up to a multiple of 4, or of 32 for tiles
// Tiles read keys of bf16 where they lie, if they can.
struct PackJob {
  const void* rows = nullptr;  // uint16_t when is_bf16, else float: [num_rows, row_width]
  bool is_bf16 = false;
  int64_t row_width = 0;
  int offset = 0;  // within a row
  int dim = 0;
  int first_row = 0;  // those before are packed already; for values a multiple of 4, for queries 0
  int num_rows = 0;   // of keys and values at most 64
  float* to = nullptr;
};

// Queries meet a block, all of whose tokens they see. A query is one head of one row. Keys and
// values are packed on the way, to memory that holds zeros in the padding of keys.
struct AttendBlockJob {
  // Floats of memory for each 16 queries: scores and weights of a block, a factor per query.
  static constexpr int kMemoryPerGroup = (2 * kBlockTokens + 1) * kVectorLanes;

  const float* queries;  // from pack_queries
  int64_t query_begin;   // of these, those to compute
  int64_t query_end;
  PackJob keys;       // of a bf16 cache, softmax weights are rounded before they meet the values
  PackJob values;     // of the same tokens
  bool keeps_packed;  // for the next job with more tokens; else first_row is 0
  float scale;
  float* memory;  // kMemoryPerGroup for each 16 queries
  // The state of the online softmax, updated; readable for whole panels of queries.
  float* max;      // [queries], starts at -infinity
  float* sum;      // [queries], starts at 0
  float* context;  // [queries, value_dim padded to 16], starts at 0
  int64_t context_stride;
  // Of the same cache, what the next job will want; or null.
  const void* next_rows;
  int num_next_rows;
};

struct LaneKernels {
  const char* name;

  void (*prepare_rows)(const PrepareJob& job);
  // To f32, and to bf16.
  void (*widen_row)(const uint16_t* from, int num, float* to);
  void (*round_row)(const float* from, int num, uint16_t* to);
  // The largest |x|, at least 0; NaN does not count.
  float (*largest_magnitude)(const float* x, int num);
  // To e4m3 after division by the scale, and back.
  void (*encode_fp8)(const float* from, float scale, int num, uint8_t* to);
  void (*decode_fp8)(const uint8_t* from, float scale, int num, float* to);
  void (*matmul)(const MatmulJob& job);
  // gate = silu(gate) * up.
  void (*silu_times)(float* gate, const float* up, int num);
  void (*rms_norm)(const float* x, const float* weight, float eps, int num, float* out);
  void (*pack_queries)(const PackJob& job);
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
const LaneKernels& Avx2LaneKernels();        // only on a processor with AVX2 and FMA
const LaneKernels& Avx512LaneKernels();      // only on a processor with AVX512F
const LaneKernels& Avx512Bf16LaneKernels();  // and AVX512BW, _VBMI and _BF16
const LaneKernels& AmxLaneKernels();       // and AMX-TILE and -BF16, which the system has permitted
const LaneKernels& AmxModelLaneKernels();  // as Avx512Bf16LaneKernels: the tiles are a model

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_LANE_KERNELS_H_
