// A part in a process of its own, so that an error of the GPU, which ends a process or holds it for ever, costs that part
// and no other.
//
//   const PartResult result = RunPart({.name = "All/Attention", .argv = argv, .log_dir = dir, .timeout = absl::Minutes(5)});
//
// argv is that of this program, whose main() answers to --part and --report_file. What the part prints is in
// LOG_DIR/PART.log.
#ifndef ORRERY_TESTS_GPU_CHECK_PART_PROCESS_H_
#define ORRERY_TESTS_GPU_CHECK_PART_PROCESS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/gpu_check/part_report.h"

namespace orrery {

struct PartProcess {
  std::string name;  // of the suite
  std::vector<std::string> argv;
  std::string log_dir;
  absl::Duration timeout;
};

std::string LogPath(const std::string& log_dir, const std::string& part);

// A process that could not be started, died or was not over in time is a test that failed.
PartResult RunPart(const PartProcess& part);

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_PART_PROCESS_H_
