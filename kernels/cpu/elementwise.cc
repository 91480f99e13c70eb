#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/load_value.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// log of a normal number, in f64: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), and log m = 2
// atanh(s) with s = (m - 1) / (m + 1), |s| <= 0.1716. The first term left out is below 2 *
// 0.1716^25 / 25 = 6e-21.
double Log(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // [1/2, 1)
  if (mantissa < 0x1.6a09e667f3bcdp-1) {
    mantissa *= 2.0;
    --exponent;
  }
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double s_squared = s * s;
  double series = 0.0;
  for (int k = 23; k >= 1; k -= 2) series = series * s_squared + 1.0 / k;
  return exponent * 0x1.62e42fefa39efp-1 + 2.0 * s * series;
}

// Products and sums are rounded one by one: no fused operation, so no instruction set.
void RotatePairs(float* a, float* b, int step, int num_pairs, const float* cos, const float* sin) {
  for (int i = 0; i < num_pairs; ++i) {
    const float x = a[i * step];
    const float y = b[i * step];
    a[i * step] = x * cos[i] - y * sin[i];
    b[i * step] = x * sin[i] + y * cos[i];
  }
}

}  // namespace

void CpuKernels::Embed(DType dtype, const void* table, absl::Span<const int32_t> ids, Matrix out) {
  ORRERY_CHECK(out.num_rows == static_cast<int64_t>(ids.size()))
      << ids.size() << " ids, " << out.num_rows << " rows";
  const int width = static_cast<int>(out.num_cols);
  ShareRows(out.num_rows, width, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      const int64_t begin = ids[row] * out.num_cols;
      if (dtype == DType::kBf16) {
        lanes_.widen_row(static_cast<const uint16_t*>(table) + begin, width, out.row(row));
      } else if (dtype == DType::kF32) {
        std::memcpy(out.row(row), static_cast<const float*>(table) + begin, width * sizeof(float));
      } else {
        for (int i = 0; i < width; ++i) out.row(row)[i] = LoadValue(dtype, table, begin + i);
      }
    }
  });
}

void CpuKernels::RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) {
  CheckSameShape(x, out);
  ShareRows(x.num_rows, x.num_cols, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      lanes_.rms_norm(x.row(row), weight, eps, static_cast<int>(x.num_cols), out.row(row));
    }
  });
}

void CpuKernels::Rope(Matrix x, int num_heads, int head_stride, int first_position,
                      RopePairing pairing, const RopeTable& table) {
  CheckRope(x, num_heads, head_stride, first_position, table);
  const int num_pairs = table.dim / 2;
  const bool interleaved = pairing == RopePairing::kInterleaved;
  ShareRows(x.num_rows, int64_t{num_heads} * table.dim, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      const int64_t at = (first_position + row) * num_pairs;
      for (int h = 0; h < num_heads; ++h) {
        float* const head = x.row(row) + static_cast<int64_t>(h) * head_stride;
        float* const second = head + (interleaved ? 1 : num_pairs);
        RotatePairs(head, second, interleaved ? 2 : 1, num_pairs, table.cos + at, table.sin + at);
      }
    }
  });
}

void CpuKernels::Add(ConstMatrix y, Matrix x) {
  CheckSameShape(y, x);
  ShareRows(x.num_rows, x.num_cols, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) lanes_.add(y.row(row), static_cast<int>(x.num_cols), x.row(row));
  });
}

// (Views that overlap need one order.)
void CpuKernels::Copy(ConstMatrix from, Matrix to) {
  CheckSameShape(from, to);
  for (int64_t r = 0; r < to.num_rows; ++r) {
    std::memmove(to.row(r), from.row(r), to.num_cols * sizeof(float));
  }
}

void CpuKernels::WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) {
  CheckWeightedSum(rows, topk, out);
  const int width = static_cast<int>(out.num_cols);
  ShareRows(out.num_rows, int64_t{width} * topk, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      std::memset(out.row(row), 0, width * sizeof(float));
      for (int j = 0; j < topk; ++j) {
        lanes_.add_times(rows.row(row * topk + j), weights[row * topk + j], width, out.row(row));
      }
    }
  });
}

void CpuKernels::LogSoftmax(ConstMatrix logits, Matrix out) {
  CheckSameShape(logits, out);
  const int num = static_cast<int>(logits.num_cols);
  ShareRows(logits.num_rows, 4 * logits.num_cols, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      const float max = lanes_.max_value(logits.row(row), num);
      const float sum = lanes_.sum_exp(logits.row(row), max, num, nullptr);
      lanes_.subtract(logits.row(row), max, static_cast<float>(Log(sum)), num, out.row(row));
    }
  });
}

}  // namespace orrery
