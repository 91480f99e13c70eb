// Views of row-major matrices: pointer, shape, stride. They own nothing.
#ifndef ORRERY_BASE_MATRIX_H_
#define ORRERY_BASE_MATRIX_H_

#include <cstdint>
#include <type_traits>

namespace orrery {

// [num_rows, num_cols], row r at data + r * stride. The stride is in elements and may exceed num_cols.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  int64_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data, int64_t num_rows, int64_t num_cols)
      : MatrixView(data, num_rows, num_cols, num_cols) {}
  MatrixView(T* data, int64_t num_rows, int64_t num_cols, int64_t stride)
      : data(data), num_rows(num_rows), num_cols(num_cols), stride(stride) {}
  // A view of mutable elements reads as a view of const ones.
  template <typename U, typename = std::enable_if_t<std::is_same_v<const U, T>>>
  MatrixView(const MatrixView<U>& other)  // NOLINT: implicit on purpose
      : MatrixView(other.data, other.num_rows, other.num_cols, other.stride) {}

  constexpr T* row(int64_t index) const { return data + index * stride; }
  // Columns [begin, begin + count) of every row.
  MatrixView Columns(int64_t begin, int64_t count) const {
    return MatrixView(data + begin, num_rows, count, stride);
  }
  // Rows [begin, begin + count).
  MatrixView Rows(int64_t begin, int64_t count) const {
    return MatrixView(row(begin), count, num_cols, stride);
  }
};

using Matrix = MatrixView<float>;
using ConstMatrix = MatrixView<const float>;

}  // namespace orrery

#endif  // ORRERY_BASE_MATRIX_H_
