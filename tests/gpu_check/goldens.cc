#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/engine/engine_cluster.h"
#include "tests/gpu_check/gpu.h"
#include "tests/gpu_check/parts.h"
#include "tools/check/check_numbers.h"
#include "tools/check/golden_file.h"
#include "tools/check/golden_run.h"
#include "tools/check/report.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr char kSuite[] = "Goldens";

absl::Status CheckModelCase(const GoldenFile& golden, const Numerics& numerics, Report& report) {
  ASSIGN_OR_RETURN(const GoldenRun run, GoldenRun::Open(golden, {.numerics = numerics}));
  // Two shards, so that rows of one layer go to both.
  const int num_experts = run.config().num_experts;
  std::vector<ExpertRange> shards;
  if (num_experts > 0) shards = {{0, num_experts / 2}, {num_experts / 2, num_experts}};
  const auto cluster =
      EngineCluster::Make({.model_dir = golden.dir(),
                           .backend = {.make_device = [] { return MakeCudaDevice(0); },
                                       .make_kernels = MakeCudaKernels},
                           .numerics = numerics,
                           .max_context_tokens = run.num_positions(),
                           .with_mtp = run.with_mtp(),
                           .shards = shards});
  if (cluster == nullptr) return absl::InternalError("no cluster");
  cluster->AnswerAll();
  report.Title(absl::StrCat(golden.dir(), ", ", std::string(PrecisionName(numerics.precision))));
  const StepParts rank = cluster->parts(0);
  return run.Check({&rank, 1}, report);
}

absl::Status CheckNumbers(const GoldenFile& golden, Report& report) {
  ASSIGN_OR_RETURN(Gpu gpu, Gpu::Open());
  return CheckFp8(golden, {gpu.device.get(), gpu.stream.get(), gpu.kernels.get()}, report);
}

// The body of a test.
void Expect(const std::string& dir,
            const std::function<absl::Status(const GoldenFile&, Report&)>& check) {
  const absl::StatusOr<GoldenFile> golden = GoldenFile::Open(dir);
  ASSERT_TRUE(golden.ok()) << golden.status();
  Report report(stdout);
  const absl::Status status = check(*golden, report);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(report.num_failed(), 0);
  EXPECT_GT(report.num_passed(), 0);
}

void RegisterFolder(const fs::path& dir) {
  const std::string name = dir.filename().string();
  const std::string path = dir.string();
  if (fs::exists(dir / "config.json")) {
    for (const auto& [precision, row_format] :
         {std::pair(Precision::kF32, RowFormat::kF32), {Precision::kBf16, RowFormat::kBf16}}) {
      const Numerics numerics = {.precision = precision, .row_format = row_format};
      RegisterTest(kSuite, absl::StrCat(name, "_", std::string(PrecisionName(precision))), [=] {
        Expect(path, [&](const GoldenFile& golden, Report& report) {
          return CheckModelCase(golden, numerics, report);
        });
      });
    }
  } else if (absl::StartsWith(name, "fp8")) {
    RegisterTest(kSuite, name, [=] { Expect(path, CheckNumbers); });
  }
}

}  // namespace

void RegisterGoldens(const GpuCheckOptions& options) {
  if (options.golden_dir.empty()) {
    RegisterTest(kSuite, "All", [] { GTEST_SKIP() << "no --golden"; });
    return;
  }
  std::error_code error;
  std::vector<fs::path> dirs;
  for (const auto& entry : fs::directory_iterator(options.golden_dir, error)) {
    if (fs::exists(entry.path() / "golden.json")) dirs.push_back(entry.path());
  }
  std::sort(dirs.begin(), dirs.end());
  if (dirs.empty()) {
    RegisterTest(kSuite, "All", [dir = options.golden_dir] {
      FAIL() << "--golden: no folder with a golden.json in \"" << dir << '"';
    });
  }
  for (const fs::path& dir : dirs) RegisterFolder(dir);
}

}  // namespace orrery
