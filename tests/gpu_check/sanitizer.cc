// Parts of this program under compute-sanitizer: memory that is nobody's, races in shared memory, barriers that not all
// threads reach.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/gpu_check/parts.h"
#include "tools/launch/child_process.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr char kSuite[] = "Sanitizer";
constexpr const char* kTools[] = {"memcheck", "racecheck", "synccheck"};
// Small, since everything takes some hundred times as long: the kernels of products and attention with all numbers of
// rows, and all others, and graphs, as a step of two processes calls them.
constexpr const char* kParts[] = {"Invariance", "Step"};
constexpr int kFoundSomething = 86;  // an exit code that nothing else has
constexpr absl::Duration kPatience = absl::Minutes(5);

// Empty if nothing was found.
absl::StatusOr<std::string> RunUnder(const std::string& tool, const std::string& part,
                                     const GpuCheckOptions& options) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error) return absl::UnavailableError(absl::StrCat("/proc/self/exe: ", error.message()));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<ChildProcess> child,
      ChildProcess::Start(
          {options.compute_sanitizer, absl::StrCat("--tool=", tool), "--target-processes=all",
           absl::StrCat("--error-exitcode=", kFoundSomething), self.string(),
           absl::StrCat("--part=", part), "--small",
           absl::StrCat("--seed=", testing::UnitTest::GetInstance()->random_seed()),
           absl::StrCat("--log_dir=", options.work_dir)},
          "/dev/stdout"));
  const std::optional<ExitResult> exit = child->WaitUntil(absl::Now() + kPatience);
  if (!exit.has_value()) return absl::StrCat("not over after ", absl::FormatDuration(kPatience));
  if (exit->signal == 0 && exit->code == 0) return std::string();
  const bool found = exit->signal == 0 && exit->code == kFoundSomething;
  return absl::StrCat(found ? "found something, see above" : exit->ToString());
}

}  // namespace

void RegisterSanitizer(const GpuCheckOptions& options) {
  for (const std::string tool : kTools) {
    RegisterTest(kSuite, tool, [tool, options] {
      // A GPU machine need not have the toolkit; the summary counts this as skipped.
      if (!fs::exists(options.compute_sanitizer)) {
        GTEST_SKIP() << "no " << options.compute_sanitizer << ": say --compute_sanitizer";
      }
      for (const std::string part : kParts) {
        const absl::StatusOr<std::string> problem = RunUnder(tool, part, options);
        ASSERT_TRUE(problem.ok()) << problem.status();
        EXPECT_EQ(*problem, "") << tool << " of part " << part;
        if (problem->empty()) Note(absl::StrCat(tool, ": part ", part, " is clean"));
      }
    });
  }
}

}  // namespace orrery
