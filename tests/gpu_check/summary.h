// The table that gpu_check prints last, and its exit code: pure functions.
//
//   part                     passed  failed  skipped   seconds
//   All/Attention                13       0        0      12.1
//   Nccl                          0       0        1       0.2
//     SKIPPED: libnccl.so.2 cannot be loaded
//   Bench                         1       0        0      95.0
//     copy 4012.3 GB/s
//   14 passed, 0 failed, 1 skipped: exit code 0
#ifndef ORRERY_TESTS_GPU_CHECK_SUMMARY_H_
#define ORRERY_TESTS_GPU_CHECK_SUMMARY_H_

#include <string>
#include <vector>

#include "tests/gpu_check/part_report.h"

namespace orrery {

std::string SummaryText(const std::vector<PartResult>& parts);
// 0: something passed and nothing failed; else 1.
int ExitCodeOf(const std::vector<PartResult>& parts);

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_SUMMARY_H_
