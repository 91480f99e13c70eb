// gpu_check as a whole, on the stand-in for a GPU: in small sizes, without what the stand-in takes minutes for.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/gpu_check/run_program.h"

namespace orrery {
namespace {

constexpr char kProgram[] = "tests/gpu_check/gpu_check_on_stand_in";

Ran RunParts(const std::string& parts, const std::vector<std::string>& more = {}) {
  std::vector<std::string> argv = {kProgram,
                                   "--small",
                                   "--min_time=0s",
                                   "--seed=7",
                                   absl::StrCat("--parts=", parts),
                                   absl::StrCat("--log_dir=", testing::TempDir())};
  argv.insert(argv.end(), more.begin(), more.end());
  return RunProgram(argv);
}

TEST(GpuCheckOnStandIn, RunsPartsAndPrintsTheTableLast) {
  const Ran ran = RunParts("All/Rows,All/Gate,Invariance,Bench");
  EXPECT_EQ(ran.code, 0) << ran.output;
  for (const char* text : {"All/Rows", "All/Gate", "Invariance", "Bench", "seed 7", "rms_norm",
                           "feed_forward         int4", "feed_forward         w8a8",
                           "\n  SKIPPED, the compute ceiling", "\n  bf16: copy ",
                           "\n  feed_forward/w8a8/1: ", "\n  gate/f32/"}) {
    EXPECT_TRUE(absl::StrContains(ran.output, text)) << text << "\n" << ran.output;
  }
  EXPECT_TRUE(absl::EndsWith(ran.output, "0 skipped: exit code 0\n")) << ran.output;
}

TEST(GpuCheckOnStandIn, ChecksGoldens) {
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "goldens";
  std::filesystem::create_directory(dir);
  for (const char* name : {"fp8_e4m3", "qwen2_tied"}) {
    std::filesystem::create_directory_symlink(std::filesystem::absolute("tests/data/golden") / name,
                                              dir / name);
  }
  const Ran ran = RunParts("Goldens", {"--golden=" + dir.string()});
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "3 passed")) << ran.output;
}

// The first two tokens of one answer.
TEST(GpuCheckOnStandIn, AnswersAProblemOfTheModel) {
  const Ran ran = RunParts("Model", {"--model=models/abacus", "--problems=1"});
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "bf16: the reference's ids for 1 of 1 problems"))
      << ran.output;
}

TEST(GpuCheckOnStandIn, ExchangesRowsAndDecodesInTwoProcesses) {
  const Ran ran = RunParts("CudaIpc,Step");
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "2 passed, 0 failed, 0 skipped")) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "\n  small-layer, 2 sequences of 70 tokens: "))
      << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "in two processes over cuda_ipc, at least "))
      << ran.output;
}

// A program in the place of compute-sanitizer.
std::string FakeSanitizer(const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "sanitizer";
  std::ofstream(path, std::ios::trunc) << "#!/bin/sh\n" << text << "\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return "--compute_sanitizer=" + path.string();
}

TEST(GpuCheckOnStandIn, RunsPartsUnderASanitizer) {
  const Ran ran =
      RunParts("Sanitizer",
               {FakeSanitizer("while [ \"${1#--}\" != \"$1\" ]; do echo \"given $1\"; shift; done\n"
                              "[ \"$2\" = --part=Step ] || exit 0\nexec \"$@\"")});
  EXPECT_EQ(ran.code, 0) << ran.output;
  for (const char* text : {"3 passed, 0 failed, 0 skipped", "given --tool=memcheck\n",
                           "given --tool=racecheck\n", "given --tool=synccheck\n",
                           "given --error-exitcode=86\n", "\n  memcheck: part Step is clean\n"}) {
    EXPECT_TRUE(absl::StrContains(ran.output, text)) << text << "\n" << ran.output;
  }
}

TEST(GpuCheckOnStandIn, FailsWhenASanitizerFindsSomething) {
  const Ran ran = RunParts("Sanitizer", {FakeSanitizer("exit 86")});
  EXPECT_EQ(ran.code, 1) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "found something, see above")) << ran.output;
}

TEST(GpuCheckOnStandIn, SkipsLoudlyWhatItWasNotGiven) {
  const Ran ran = RunParts("Goldens,Model,Sanitizer", {"--compute_sanitizer=/nowhere"});
  EXPECT_EQ(ran.code, 1) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "SKIPPED: no /nowhere: say --compute_sanitizer"))
      << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "SKIPPED: no --golden")) << ran.output;
}

TEST(GpuCheckOnStandIn, FailsWhenAPartIsNotOverInTime) {
  const Ran ran = RunParts("All/Gate", {"--part_timeout=0s"});
  EXPECT_EQ(ran.code, 1) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "not over after 0")) << ran.output;
}

TEST(GpuCheckOnStandIn, RefusesAPartThatIsNotThere) { EXPECT_EQ(RunParts("All/Nothing").code, 1); }

}  // namespace
}  // namespace orrery
