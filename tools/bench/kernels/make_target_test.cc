#include "tools/bench/kernels/make_target.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(MakeTarget, MakesTheCpu) {
  const auto target = MakeTarget("cpu", {.num_threads = 1, .working_set_bytes = 1 << 20});
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ((*target)->facts().peer, "oneDNN");
  EXPECT_EQ((*target)->facts().working_set_bytes, 1 << 20);
}

// Built without CUDA, or where no GPU is: one clear error.
TEST(MakeTarget, RefusesAGpuThatIsNotThere) {
  const auto target = MakeTarget("cuda", {});
  if (target.ok()) GTEST_SKIP() << "SKIPPED, nothing was tested: here is a GPU";
  const std::string message(target.status().message());
  EXPECT_TRUE(message.find("no CUDA device: ") == 0 || message.find("without CUDA") != message.npos)
      << target.status();
}

TEST(MakeTarget, RefusesAnotherName) {
  EXPECT_EQ(MakeTarget("tpu", {}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace orrery
