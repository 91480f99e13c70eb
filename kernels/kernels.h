// The math contract: every operation of the model, on matrices whose sizes come as arguments.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Weight> down, kernels.MakeWeight(source, ProductFormat::kBf16));
//   kernels.RmsNorm(hidden, norm_weight, eps, normed);              // [num_rows, hidden]
//   kernels.Matmul(normed, *down, /*bias=*/nullptr, out);           // [num_rows, num_outputs]
//
// Kernels do not know the model, and keep no state between calls but their scratch memory.
//
// The numerics are part of the contract (design: ARCHITECTURE.md, "Determinism"):
//   * Activations travel as f32. A weight's ProductFormat says what enters its products: kF32 takes
//     the activations as they are, kBf16 rounds them to bf16 (nearest even) first, kFp8 makes fp8 codes
//     of them, in groups of 128 with a scale each, as EncodeRows does. Sums are f32.
//   * A result row depends on its own input row only: never on num_rows, on the other rows, or on
//     threads. Attention over a paged cache sums in blocks of kKvBlockTokens anchored at position
//     0, so that chunking a prompt changes no bit.
//   * Implementations with the same family() agree bit for bit on every machine. Different families
//     agree within rounding.
//   * Ties (gate, argmax) go to the lower index.
//   * Denormals are flushed to zero on the way in and out (the `reference` family keeps them).
//
// Sizes may be any positive number; nothing needs to be a multiple of anything. num_rows may be 0.
//
// Threads: one Kernels object serves one thread. Calls queue work on the stream given at creation;
// on the host they have finished when they return. Pointers are device pointers unless said
// otherwise.
// Errors: only MakeWeight and MapWeight can fail (they say which value, and why; UNIMPLEMENTED for kFp8 where an
// implementation does not have it: x86); the rest checks
// shapes with ORRERY_CHECK, because they were validated when the model was loaded.
#ifndef ORRERY_KERNELS_KERNELS_H_
#define ORRERY_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/dtypes.h"
#include "base/matrix.h"
#include "base/status.h"
#include "kernels/row_places.h"

namespace orrery {

// What enters the products of a weight. kFp8: for weights of fp8 codes, held as stored, with one scale per 128
// inputs (and any number of outputs). Codes are multiplied and summed for each 128 inputs; that sum is multiplied
// with both scales.
enum class ProductFormat { kF32, kBf16, kFp8 };

// How a weight is held in memory. kStored: exactly, as the checkpoint has it. The others are
// quantised when it is made (kernels/quantize.h), from whatever it was, to codes of one scale per
// output and block of inputs:
//   kInt8  8 bits, blocks of 128 inputs       kInt4  4 bits, blocks of 32 inputs
enum class WeightFormat { kStored, kInt8, kInt4 };

// Tokens in one block of the paged cache, and the unit of the online softmax.
inline constexpr int kKvBlockTokens = 64;

// A matrix as the checkpoint stores it, row major [num_outputs, num_inputs], in host memory, any
// alignment.
struct WeightSource {
  DType dtype = DType::kF32;
  const void* data = nullptr;
  int num_outputs = 0;
  int num_inputs = 0;
  // fp8 only: value = code * scales[output / scale_block_outputs][input / scale_block_inputs],
  // scales row major [ceil(num_outputs / scale_block_outputs),
  // ceil(num_inputs / scale_block_inputs)].
  const float* scales = nullptr;
  int scale_block_outputs = 0;
  int scale_block_inputs = 0;
};

// Everything that a weight is, in host memory on a border of 64 bytes, which `owner` keeps.
struct WeightImage {
  absl::Span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// A matrix in the layout that an implementation multiplies with. Made once at load, read only
// afterwards.
class Weight {
 public:
  Weight(int num_outputs, int num_inputs) : num_outputs_(num_outputs), num_inputs_(num_inputs) {}
  virtual ~Weight() = default;
  int num_outputs() const { return num_outputs_; }
  int num_inputs() const { return num_inputs_; }
  // What a product reads of it.
  virtual size_t num_bytes() const = 0;
  // For MapWeight. What lies on a device is read back, so ask only for what will be kept. Errors: of the
  // device; RESOURCE_EXHAUSTED.
  virtual absl::StatusOr<WeightImage> Image() const = 0;

 private:
  int num_outputs_;
  int num_inputs_;
};

// Which pairs of a vector rotate together.
enum class RopePairing {
  kInterleaved,  // (2i, 2i+1): DeepSeek
  kHalfSplit,    // (i, i + dim/2): Qwen2, Llama
};

// cos and sin of every position, made by MakeRopeTable.
struct RopeTable {
  const float* cos = nullptr;  // [num_positions, dim / 2]
  const float* sin = nullptr;  // [num_positions, dim / 2]
  int num_positions = 0;
  int dim = 0;
};

// The paged cache of one layer. Token t of a sequence lies in block block_ids[t / kKvBlockTokens],
// as row t % kKvBlockTokens; a row has row_width values of the given format (f32 or bf16).
//
//   data + ((block_id * kKvBlockTokens) + row) * row_width * DTypeBytes(format)
struct KvCacheView {
  DType format = DType::kBf16;
  std::byte* data = nullptr;
  int num_blocks = 0;
  int row_width = 0;
};

// Attention of consecutive rows of one sequence over its cache: row r has position first_position +
// r and sees positions begin_position..first_position + r, at least one, which must have been
// appended. (Blocks stay anchored at position 0: the first may have fewer tokens.) All heads read
// the same keys and values, both parts of the cache row: multi-query attention. Absorbed MLA is one
// call per layer (key = latent and rope key, value = latent); GQA is one call per kv head.
//
//   score[h][j] = scale * sum_d q[h][d] * cache[j][key_offset + d]           d < key_dim
//   out[h]      = sum_j softmax(score[h])[j] * cache[j][value_offset + ...]   value_dim values
struct AttendArgs {
  // [num_rows, num_heads * key_dim], head-major; rounded to the cache's format first
  ConstMatrix q;
  int num_heads = 0;
  int key_dim = 0;
  int key_offset = 0;
  int value_dim = 0;
  int value_offset = 0;
  float scale = 1.0f;
  KvCacheView cache;
  absl::Span<const int32_t> block_ids = {};  // host memory
  int begin_position = 0;  // positions before it are not seen, as if they were not there
  int first_position = 0;
  Matrix out;  // [num_rows, num_heads * value_dim]
};

// How a gate chooses experts. Sources: DeepSeek-V2 and -V3 inference code.
struct GateParams {
  enum class Score { kSigmoid, kSoftmax };
  enum class GroupScore { kMax, kTop2Sum };  // of the scores (plus bias) within a group
  Score score = Score::kSigmoid;
  GroupScore group_score = GroupScore::kTop2Sum;
  int num_experts = 0;
  int num_groups = 1;       // consecutive groups of num_experts / num_groups; 1: no limit by group
  int num_kept_groups = 1;  // experts of the other groups cannot be chosen
  int topk = 0;
  bool normalize = false;  // divide the chosen weights by their sum
  float weight_scale = 1.0f;
  const float* bias = nullptr;  // [num_experts] added for choosing, not in the weights; may be null
};

// Rows of hidden state on their way between processes.
enum class RowFormat { kF32, kBf16, kFp8 };

// Bytes of one encoded row. fp8: one f32 scale per 128 values (the last block may be short), scales
// after the codes, which are padded to 4 bytes:  [codes: width, padded to 4]
// [scales: ceil(width / 128) f32]
size_t EncodedRowBytes(RowFormat format, int width);

// out = silu(gate(x)) * up(x), then down: the feed-forward of a dense layer, a shared or a routed
// expert. [num_rows, width] -> [num_rows, width]; silu(z) = z / (1 + exp(-z)). The three weights are made with
// ProductFormat::kFp8, or none of them is.
struct FeedForwardArgs {
  ConstMatrix x;
  const Weight* gate = nullptr;
  const Weight* up = nullptr;
  const Weight* down = nullptr;
  Matrix out;
};

// The largest calls of somebody who computes with a model: what scratch memory follows from.
struct ScratchLimits {
  // A call that multiplies rows with weights; of a FeedForward gate and up count as one each, and down
  // is another call. num_rows: over all weights, whose inputs are at most num_inputs.
  struct Products {
    int64_t num_rows = 0;
    int num_weights = 1;
    int num_inputs = 0;
  };
  Products products;       // the largest but for those of down
  Products down_products;  // of the largest FeedForward
  // Of one Attend: its sequences, how many attends each has, key_dim and value_dim together, and the longest
  // context. 0: none.
  int num_sequences = 0;
  int attend_dims = 0;
  int attends_per_sequence = 1;
  int max_positions = 0;
  int max_rows = 0;         // of a batch with RowPlaces, which are part of it; 0: without
  int max_second_rows = 0;  // likewise, of a second one beside it
};

class Kernels {
 public:
  virtual ~Kernels() = default;

  // Names the bits: part of the numerics id. "reference-1", "x86-1".
  virtual std::string_view family() const = 0;
  // How this machine runs the family, for status pages: "avx512bf16", "avx2".
  virtual std::string_view variant() const = 0;

  // INVALID_ARGUMENT for scale blocks that the implementation cannot follow.
  virtual absl::StatusOr<std::unique_ptr<Weight>> MakeWeight(const WeightSource& source,
                                                             ProductFormat format,
                                                             WeightFormat held) = 0;
  absl::StatusOr<std::unique_ptr<Weight>> MakeWeight(const WeightSource& source,
                                                     ProductFormat format) {
    return MakeWeight(source, format, WeightFormat::kStored);
  }

  // A weight that views an image of this family, on whatever machine it was made. INVALID_ARGUMENT
  // for bytes that are none, or of another version; what an image says is checked, its values are
  // not.
  virtual absl::StatusOr<std::unique_ptr<Weight>> MapWeight(const WeightImage& image) = 0;

  // What MakeWeight takes of the device's memory; data of the source is not looked at. Errors: of MakeWeight.
  virtual absl::StatusOr<size_t> WeightBytes(const WeightSource& source, ProductFormat format,
                                             WeightFormat held) const = 0;
  // The same of scratch memory for calls within these limits, places of rows and graphs included.
  // ReserveScratch takes most of it, before any call; without, it is taken when a call first needs it,
  // which no captured work may do.
  // RESOURCE_EXHAUSTED.
  virtual size_t ScratchBytes(const ScratchLimits& limits) const { return 0; }
  virtual absl::Status ReserveScratch(const ScratchLimits& limits) { return absl::OkStatus(); }

  // out[r] = table[ids[r]]; table is [num_ids, width] of bf16, f16 or f32. ids in host memory.
  virtual void Embed(DType dtype, const void* table, absl::Span<const int32_t> ids, Matrix out) = 0;

  // out[r] = weight * x[r] / sqrt(mean(x[r]^2) + eps); weight [num_cols]. out may be x.
  virtual void RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) = 0;

  // out = x * weight^T (+ bias): [num_rows, num_inputs] -> [num_rows, num_outputs]. bias
  // [num_outputs] or null.
  virtual void Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) = 0;
  // The same for each head: weights, all of one shape, meet slices of columns. Slice h of x starts
  // at column h * x_head_stride, slice h of out at h * out_head_stride; columns in between stay as
  // they are.
  virtual void MatmulHeads(ConstMatrix x, int x_head_stride,
                           absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                           int out_head_stride) = 0;

  // Rotates consecutive rows of one sequence: row r has position first_position + r, and each of
  // its num_heads vectors of table.dim values starts at head * head_stride.
  virtual void Rope(Matrix x, int num_heads, int head_stride, int first_position,
                    RopePairing pairing, const RopeTable& table) = 0;

  // Appends rows [num_rows, row_width] of one sequence at positions first_position..., rounded to
  // the format.
  virtual void AppendKv(ConstMatrix rows, const KvCacheView& cache,
                        absl::Span<const int32_t> block_ids, int first_position) = 0;
  // Attentions that do not depend on each other: of all sequences of a batch, say.
  virtual void Attend(absl::Span<const AttendArgs> all) = 0;
  void Attend(const AttendArgs& one) { Attend(absl::MakeConstSpan(&one, 1)); }

  // Rope, AppendKv and Attend of all sequences of a batch; matrices have its rows, or those of its shape.
  // heads: Attends of any one sequence that do not depend on each other, block_ids and first_position
  // left out.
  virtual absl::StatusOr<std::unique_ptr<RowPlaces>> MakeRowPlaces(const RowPlaceLimits& limits);
  virtual void RopeBatch(Matrix x, int num_heads, int head_stride, const RowPlaces& places,
                         RopePairing pairing, const RopeTable& table);
  virtual void AppendKvBatch(ConstMatrix kv, const KvCacheView& cache, const RowPlaces& places);
  virtual void AttendBatch(absl::Span<const AttendArgs> heads, const RowPlaces& places);

  // Feed-forwards that do not depend on each other: of the experts that have rows, say.
  virtual void FeedForward(absl::Span<const FeedForwardArgs> all) = 0;
  void FeedForward(ConstMatrix x, const Weight& gate, const Weight& up, const Weight& down,
                   Matrix out) {
    const FeedForwardArgs one = {x, &gate, &up, &down, out};
    FeedForward(absl::MakeConstSpan(&one, 1));
  }

  // x += y.
  virtual void Add(ConstMatrix y, Matrix x) = 0;
  // to = from, views of one shape.
  virtual void Copy(ConstMatrix from, Matrix to) = 0;

  // Chooses topk experts for each row of logits [num_rows, num_experts]: expert_ids and weights
  // [num_rows, topk], by ascending expert id. forced_ids (same shape, ascending; may be null) replaces the
  // choice but not the computation of the weights: for tests that compare with another
  // implementation.
  virtual void Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
                    int32_t* expert_ids, float* weights) = 0;

  // Row format conversions; encoded rows are EncodedRowBytes(format, num_cols) apart.
  virtual void EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) = 0;
  virtual void DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) = 0;

  // out[r] = sum over j < topk, ascending, of weights[r * topk + j] * rows[r * topk + j]: the
  // combine.
  virtual void WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) = 0;

  // For each row of logits: log-probabilities of all ids, x - max - log(sum exp(x - max)). out may
  // be logits.
  virtual void LogSoftmax(ConstMatrix logits, Matrix out) = 0;

 private:
  std::vector<AttendArgs> attends_;  // of AttendBatch
};

// Fills cos and sin [num_positions, num_pairs] of angle = position * inverse_frequencies[pair],
// computed in f64 by argument reduction and polynomials of our own, so that no math library changes
// a bit. Host memory.
void MakeRopeTable(absl::Span<const double> inverse_frequencies, int num_positions, float* cos,
                   float* sin);

}  // namespace orrery

#endif  // ORRERY_KERNELS_KERNELS_H_
