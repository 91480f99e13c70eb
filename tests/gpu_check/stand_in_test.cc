// gpu_check as a whole, on the stand-in for a GPU: in small sizes, without what the stand-in takes minutes for.
#include <gtest/gtest.h>

#include <filesystem>

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
                           "feed_forward         int4", "\n  SKIPPED, the compute ceiling",
                           "\n  bf16: copy ", "\n  feed_forward/fp8/1: ", "\n  gate/f32/"}) {
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

TEST(GpuCheckOnStandIn, SkipsLoudlyWhatItWasNotGiven) {
  const Ran ran = RunParts("Goldens,Model");
  EXPECT_EQ(ran.code, 1) << ran.output;
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
