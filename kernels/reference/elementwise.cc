#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/load_value.h"
#include "kernels/reference/reference_kernels.h"
#include "kernels/shape_checks.h"

namespace orrery {

void ReferenceKernels::Embed(DType dtype, const void* table, absl::Span<const int32_t> ids,
                             Matrix out) {
  ORRERY_CHECK(out.num_rows == static_cast<int64_t>(ids.size()))
      << ids.size() << " ids, " << out.num_rows << " rows";
  for (int64_t r = 0; r < out.num_rows; ++r) {
    for (int64_t i = 0; i < out.num_cols; ++i) {
      out.row(r)[i] = LoadValue(dtype, table, ids[r] * out.num_cols + i);
    }
  }
}

void ReferenceKernels::RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) {
  CheckSameShape(x, out);
  for (int64_t r = 0; r < x.num_rows; ++r) {
    double sum = 0.0;
    for (int64_t i = 0; i < x.num_cols; ++i) {
      sum += static_cast<double>(x.row(r)[i]) * x.row(r)[i];
    }
    const double root = std::sqrt(sum / x.num_cols + eps);
    for (int64_t i = 0; i < x.num_cols; ++i) {
      out.row(r)[i] = static_cast<float>(weight[i] * (x.row(r)[i] / root));
    }
  }
}

void ReferenceKernels::Rope(Matrix x, int num_heads, int head_stride, int first_position,
                            RopePairing pairing, const RopeTable& table) {
  CheckRope(x, num_heads, head_stride, first_position, table);
  const int num_pairs = table.dim / 2;
  const bool interleaved = pairing == RopePairing::kInterleaved;
  for (int64_t r = 0; r < x.num_rows; ++r) {
    const float* cos = table.cos + (first_position + r) * num_pairs;
    const float* sin = table.sin + (first_position + r) * num_pairs;
    for (int h = 0; h < num_heads; ++h) {
      float* head = x.row(r) + static_cast<int64_t>(h) * head_stride;
      for (int i = 0; i < num_pairs; ++i) {
        float& a = interleaved ? head[2 * i] : head[i];
        float& b = interleaved ? head[2 * i + 1] : head[i + num_pairs];
        const double a_before = a;
        const double b_before = b;
        a = static_cast<float>(a_before * cos[i] - b_before * sin[i]);
        b = static_cast<float>(a_before * sin[i] + b_before * cos[i]);
      }
    }
  }
}

void ReferenceKernels::Add(ConstMatrix y, Matrix x) {
  CheckSameShape(y, x);
  for (int64_t r = 0; r < x.num_rows; ++r) {
    for (int64_t i = 0; i < x.num_cols; ++i) x.row(r)[i] += y.row(r)[i];
  }
}

void ReferenceKernels::Copy(ConstMatrix from, Matrix to) {
  CheckSameShape(from, to);
  for (int64_t r = 0; r < to.num_rows; ++r) {
    for (int64_t i = 0; i < to.num_cols; ++i) to.row(r)[i] = from.row(r)[i];
  }
}

void ReferenceKernels::WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) {
  CheckWeightedSum(rows, topk, out);
  for (int64_t r = 0; r < out.num_rows; ++r) {
    for (int64_t i = 0; i < out.num_cols; ++i) {
      double sum = 0.0;
      for (int j = 0; j < topk; ++j) {
        sum += static_cast<double>(weights[r * topk + j]) * rows.row(r * topk + j)[i];
      }
      out.row(r)[i] = static_cast<float>(sum);
    }
  }
}

void ReferenceKernels::LogSoftmax(ConstMatrix logits, Matrix out) {
  CheckSameShape(logits, out);
  for (int64_t r = 0; r < logits.num_rows; ++r) {
    const float* row = logits.row(r);
    const double max = *std::max_element(row, row + logits.num_cols);
    double sum = 0.0;
    for (int64_t i = 0; i < logits.num_cols; ++i) sum += std::exp(row[i] - max);
    const double log_sum = std::log(sum);
    for (int64_t i = 0; i < logits.num_cols; ++i) {
      out.row(r)[i] = static_cast<float>(row[i] - max - log_sum);
    }
  }
}

}  // namespace orrery
