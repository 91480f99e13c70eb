// Runs a program to its end, and what it printed: for tests of gpu_check as a whole.
#ifndef ORRERY_TESTS_GPU_CHECK_RUN_PROGRAM_H_
#define ORRERY_TESTS_GPU_CHECK_RUN_PROGRAM_H_

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "tools/launch/child_process.h"

namespace orrery {

struct Ran {
  int code = -1;  // -1: it did not exit
  std::string output;
};

// As Bazel sees it: paths from the root of the source tree.
inline Ran RunProgram(const std::vector<std::string>& argv) {
  const std::string path = testing::TempDir() + "/output";
  std::ofstream(path, std::ios::trunc).close();
  const auto child = ChildProcess::Start(argv, path);
  EXPECT_TRUE(child.ok()) << child.status();
  if (!child.ok()) return {};
  const std::optional<ExitResult> exit = (*child)->WaitUntil(absl::Now() + absl::Minutes(4));
  EXPECT_TRUE(exit.has_value()) << "not over in time";
  std::ifstream file(path, std::ios::binary);
  Ran ran = {.output = std::string(std::istreambuf_iterator<char>(file), {})};
  if (exit.has_value() && exit->signal == 0) ran.code = exit->code;
  return ran;
}

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_RUN_PROGRAM_H_
