// The preconditions of kernels.h as code: every implementation calls these first, so that a wrong
// shape dies with its numbers and not in a loop.
//
// Errors: ORRERY_CHECK throughout, but for CheckWeightSource, whose input comes from a file.
#ifndef ORRERY_KERNELS_SHAPE_CHECKS_H_
#define ORRERY_KERNELS_SHAPE_CHECKS_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "base/matrix.h"
#include "base/status.h"
#include "kernels/kernels.h"

namespace orrery {

// Sizes are positive, data is there, fp8 and only fp8 has scales; what ProductFormat::kFp8 asks for is there.
absl::Status CheckWeightSource(const WeightSource& source, ProductFormat format, WeightFormat held);

// Shapes are equal.
void CheckSameShape(const ConstMatrix& a, const ConstMatrix& b);
void CheckMatmul(const ConstMatrix& x, const Weight& weight, const ConstMatrix& out);
// Weights are of one shape, and the slices of columns exist and do not overlap in out.
void CheckMatmulHeads(const ConstMatrix& x, int x_head_stride,
                      absl::Span<const std::unique_ptr<Weight>> weights, const ConstMatrix& out,
                      int out_head_stride);
void CheckFeedForward(ConstMatrix x, const Weight& gate, const Weight& up, const Weight& down,
                      ConstMatrix out);
void CheckRope(ConstMatrix x, int num_heads, int head_stride, int first_position,
               const RopeTable& table);
// Positions [0, num_positions) have blocks, and the blocks exist.
void CheckKvCache(const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                  int64_t num_positions);
void CheckAppendKv(ConstMatrix rows, const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                   int first_position);
void CheckAttend(const AttendArgs& args);
// Of it what does not concern positions and blocks.
void CheckAttendShapes(const AttendArgs& args);
void CheckGate(ConstMatrix logits, const GateParams& params);
// One row of forced ids: ascending, each an expert.
void CheckForcedIds(const int32_t* forced_ids, const GateParams& params);
void CheckWeightedSum(ConstMatrix rows, int topk, ConstMatrix out);

// The cache row of a position of a sequence. Checked before, by CheckKvCache.
inline std::byte* KvRow(const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                        int64_t position) {
  const int64_t block_id = block_ids[position / kKvBlockTokens];
  const int64_t row = block_id * kKvBlockTokens + position % kKvBlockTokens;
  return cache.data + row * cache.row_width * DTypeBytes(cache.format);
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_SHAPE_CHECKS_H_
