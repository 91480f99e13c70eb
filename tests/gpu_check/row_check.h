// Whether rows of an operation give the same bits whatever comes with them: for every number of rows, and each alone;
// queued, and captured and replayed as a graph.
//
//   const RowOperation operation = {.num_rows = 256, .row_bytes = 4 * 7168, .run = [&](int begin, int num, Buffer& out) {
//     kernels.Matmul(x.Rows(begin, num), *weight, nullptr, {out.as<float>(), num, 7168});
//   }};
//   EXPECT_TRUE(SameBitsForEveryNumberOfRows(gpu, operation));
#ifndef ORRERY_TESTS_GPU_CHECK_ROW_CHECK_H_
#define ORRERY_TESTS_GPU_CHECK_ROW_CHECK_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>

#include "tests/gpu_check/gpu.h"

namespace orrery {

struct RowOperation {
  int num_rows = 0;      // at most
  size_t row_bytes = 0;  // of a result
  // Queues the operation on rows [begin, begin + num), whose results lie one after the other in `out`. When it is captured,
  // it was queued before with the same rows.
  std::function<void(int begin, int num, Buffer& out)> run;
};

// Says which row of how many differs, and whether it was replayed.
testing::AssertionResult SameBitsForEveryNumberOfRows(const Gpu& gpu,
                                                      const RowOperation& operation);

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_ROW_CHECK_H_
