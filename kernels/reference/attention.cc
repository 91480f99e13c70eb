#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/load_value.h"
#include "kernels/reference/reference_kernels.h"
#include "kernels/shape_checks.h"

namespace orrery {

void ReferenceKernels::AppendKv(ConstMatrix rows, const KvCacheView& cache,
                                absl::Span<const int32_t> block_ids, int first_position) {
  CheckAppendKv(rows, cache, block_ids, first_position);
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    std::byte* to = KvRow(cache, block_ids, first_position + r);
    for (int64_t i = 0; i < rows.num_cols; ++i) {
      if (cache.format == DType::kF32) {
        std::memcpy(to + i * sizeof(float), rows.row(r) + i, sizeof(float));
      } else {
        const uint16_t bits = F32ToBf16(rows.row(r)[i]);
        std::memcpy(to + i * sizeof(bits), &bits, sizeof(bits));
      }
    }
  }
}

namespace {

// One head of one row, which sees positions [args.begin_position, end).
void AttendHead(const AttendArgs& args, const float* q, int64_t end, float* out) {
  const DType format = args.cache.format;
  const int64_t begin = args.begin_position;
  const int64_t num_positions = end - begin;
  std::vector<double> scores(num_positions);
  for (int64_t j = 0; j < num_positions; ++j) {
    const std::byte* row = KvRow(args.cache, args.block_ids, begin + j);
    double sum = 0.0;
    for (int d = 0; d < args.key_dim; ++d) {
      const double query = format == DType::kBf16 ? RoundToBf16(q[d]) : q[d];
      sum += query * LoadValue(format, row, args.key_offset + d);
    }
    scores[j] = args.scale * sum;
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (double& score : scores) {
    score = std::exp(score - max);
    total += score;
  }
  for (int d = 0; d < args.value_dim; ++d) {
    double sum = 0.0;
    for (int64_t j = 0; j < num_positions; ++j) {
      const std::byte* row = KvRow(args.cache, args.block_ids, begin + j);
      sum += scores[j] * LoadValue(format, row, args.value_offset + d);
    }
    out[d] = static_cast<float>(sum / total);
  }
}

}  // namespace

void ReferenceKernels::Attend(absl::Span<const AttendArgs> all) {
  for (const AttendArgs& args : all) {
    CheckAttend(args);
    for (int64_t r = 0; r < args.q.num_rows; ++r) {
      for (int h = 0; h < args.num_heads; ++h) {
        AttendHead(args, args.q.row(r) + static_cast<int64_t>(h) * args.key_dim,
                   args.first_position + r + 1,
                   args.out.row(r) + static_cast<int64_t>(h) * args.value_dim);
      }
    }
  }
}

}  // namespace orrery
