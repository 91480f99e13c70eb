// gpu_check: whether this machine's GPU computes what it should, and how fast. One program that needs nothing installed but
// the driver; cuBLASLt and NCCL are used where they are found.
//
//   gpu_check [--golden=DIR] [--model=DIR] [--seed=N] [--parts=TEXT,TEXT] [--preset=r1-layer] [--json_file=FILE]
//
// Parts run in processes of their own; the last thing it prints is a table of them. Exit code 0: all passed. 1: something
// failed, or there is no GPU.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "device/cuda/cuda_device.h"
#include "tests/gpu_check/part_process.h"
#include "tests/gpu_check/parts.h"
#include "tests/gpu_check/shard_process.h"
#include "tests/gpu_check/summary.h"

ABSL_FLAG(int, seed, 0,
          "of the random inputs, 1 to 99999; 0: another one each time, which is printed");
ABSL_FLAG(std::string, golden, "", "directory of golden folders (tests/data/golden)");
ABSL_FLAG(std::string, model, "", "directory of a model with its eval.jsonl (models/abacus)");
ABSL_FLAG(int, problems, 0, "how many problems of the model; 0: all");
ABSL_FLAG(std::vector<std::string>, parts, {}, "only parts with one of these in their names");
ABSL_FLAG(bool, small, false, "sizes for the stand-in of a GPU, and for compute-sanitizer");
ABSL_FLAG(std::string, preset, "r1-layer", "of the benchmarks: v3-mini or r1-layer");
ABSL_FLAG(std::string, filter, "", "of the benchmarks: only operations with this in their names");
ABSL_FLAG(absl::Duration, min_time, absl::Milliseconds(200), "how long to measure each operation");
ABSL_FLAG(std::string, json_file, "", "where to write the rows of the benchmarks");
ABSL_FLAG(std::string, compute_sanitizer, "/usr/local/cuda/bin/compute-sanitizer",
          "of the CUDA toolkit; where it is not, part Sanitizer is skipped");
ABSL_FLAG(absl::Duration, part_timeout, absl::Minutes(10), "how long one part may take");
ABSL_FLAG(std::string, log_dir, "",
          "for what parts print, and for the 12 GB of part Step; empty: a new directory in /tmp");
ABSL_FLAG(std::string, part, "", "run this part here, in this process (for debuggers)");
ABSL_FLAG(std::string, report_file, "", "of --part: where to say how it goes");
ABSL_FLAG(std::string, shard, "", "be the shard of this name, for the part that started this");
ABSL_FLAG(std::string, shard_model, "", "of --shard: whose experts it computes; empty: it echoes");

namespace orrery {
namespace {

constexpr int kMaxSeed = 99'999;  // GoogleTest's

GpuCheckOptions OptionsFromFlags() {
  const std::string log_dir = absl::GetFlag(FLAGS_log_dir);
  return {.golden_dir = absl::GetFlag(FLAGS_golden),
          .model_dir = absl::GetFlag(FLAGS_model),
          .max_problems = absl::GetFlag(FLAGS_problems),
          .is_small = absl::GetFlag(FLAGS_small),
          .preset = absl::GetFlag(FLAGS_preset),
          .filter = absl::GetFlag(FLAGS_filter),
          .min_time = absl::GetFlag(FLAGS_min_time),
          .json_file = absl::GetFlag(FLAGS_json_file),
          .compute_sanitizer = absl::GetFlag(FLAGS_compute_sanitizer),
          .work_dir = log_dir.empty() ? "/tmp" : log_dir};
}

void RegisterAll(const GpuCheckOptions& options) {
  RegisterInvariance(options);
  RegisterGoldens(options);
  RegisterModel(options);
  RegisterCudaIpc(options);
  RegisterNccl();
  RegisterSanitizer(options);
  RegisterBench(options);
  RegisterStep(options);
}

std::vector<std::string> WantedParts() {
  const std::vector<std::string> wanted = absl::GetFlag(FLAGS_parts);
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  std::vector<std::string> names;
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const std::string name = all.GetTestSuite(i)->name();
    const auto is_part_of_name = [&](const std::string& text) {
      return absl::StrContains(name, text);
    };
    if (wanted.empty() || std::any_of(wanted.begin(), wanted.end(), is_part_of_name)) {
      names.push_back(name);
    }
  }
  return names;
}

// In this process.
int RunHere(const std::string& part) {
  GTEST_FLAG_SET(filter, part + ".*");
  GTEST_FLAG_SET(shuffle, true);  // makes inputs follow from the seed
  GTEST_FLAG_SET(random_seed, absl::GetFlag(FLAGS_seed));
  const std::string report = absl::GetFlag(FLAGS_report_file);
  if (!report.empty()) {
    testing::UnitTest::GetInstance()->listeners().Append(new PartReporter(report));
  }
  return RUN_ALL_TESTS();
}

absl::StatusOr<std::string> LogDir() {
  std::string dir = absl::GetFlag(FLAGS_log_dir);
  if (!dir.empty()) return dir;
  dir = "/tmp/gpu_check-XXXXXX";
  if (mkdtemp(dir.data()) == nullptr)
    return absl::UnavailableError("cannot make a directory in /tmp: say --log_dir");
  return dir;
}

void PrintFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) std::printf("%s\n", line.c_str());
}

absl::StatusOr<int> RunAllParts(std::vector<std::string> argv) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeCudaDevice(0));
  ASSIGN_OR_RETURN(const std::string log_dir, LogDir());
  argv.push_back(absl::StrCat("--log_dir=", log_dir));
  int seed = absl::GetFlag(FLAGS_seed);
  if (seed == 0) {
    seed = static_cast<int>(std::random_device()() % kMaxSeed) + 1;
    argv.push_back(absl::StrCat("--seed=", seed));
  }
  std::printf("%s; seed %d; what parts print is in %s\n", device->name().c_str(), seed,
              log_dir.c_str());
  const std::vector<std::string> names = WantedParts();
  if (names.empty()) return absl::NotFoundError("no part has any of --parts in its name");
  std::vector<PartResult> results;
  for (const std::string& name : names) {
    results.push_back(RunPart({.name = name,
                               .argv = argv,
                               .log_dir = log_dir,
                               .timeout = absl::GetFlag(FLAGS_part_timeout)}));
    const PartResult& result = results.back();
    std::printf("%s: %s\n", name.c_str(), result.failed.empty() ? "done" : "FAILED");
    if (!result.failed.empty() || !result.notes.empty()) PrintFile(LogPath(log_dir, name));
    std::fflush(stdout);
  }
  std::printf("\n%s; seed %d\n%s", device->name().c_str(), seed, SummaryText(results).c_str());
  return ExitCodeOf(results);
}

int Main(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  arguments[0] = "/proc/self/exe";
  absl::SetProgramUsageMessage("checks kernels and more on the first GPU of this machine");
  testing::InitGoogleTest(&argc, argv);
  absl::ParseCommandLine(argc, argv);
  const int seed = absl::GetFlag(FLAGS_seed);
  if (seed < 0 || seed > kMaxSeed) {
    std::fprintf(stderr, "gpu_check: --seed is %d, must be 0 to %d\n", seed, kMaxSeed);
    return 2;
  }
  if (const std::string shard = absl::GetFlag(FLAGS_shard); !shard.empty()) {
    return RunShard({.name = shard, .model_dir = absl::GetFlag(FLAGS_shard_model)});
  }
  RegisterAll(OptionsFromFlags());
  if (const std::string part = absl::GetFlag(FLAGS_part); !part.empty()) return RunHere(part);
  const absl::StatusOr<int> code = RunAllParts(std::move(arguments));
  if (code.ok()) return *code;
  std::fprintf(stderr, "gpu_check: %s\n", std::string(code.status().message()).c_str());
  return 1;
}

}  // namespace
}  // namespace orrery

int main(int argc, char** argv) { return orrery::Main(argc, argv); }
