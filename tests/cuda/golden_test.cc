// `orrery check golden` on kernels/cuda: what the official model code computes, and the rows of fp8.
#include <cstdio>
#include <string>

#include "device/cuda/cuda_device.h"
#include "gtest/gtest.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "tools/check/check_golden.h"
#include "tools/check/report.h"

namespace orrery {
namespace {

struct Case {
  const char* folder;
  Precision precision;
};

class GoldenOnCuda : public testing::TestWithParam<Case> {};

TEST_P(GoldenOnCuda, Holds) {
  const bool is_f32 = GetParam().precision == Precision::kF32;
  CheckModelOptions options;
  options.cluster.backend = Backend::kCuda;
  options.cluster.make_device = [] { return MakeCudaDevice(0); };
  options.cluster.make_kernels = MakeCudaKernels;
  options.cluster.numerics = {.precision = GetParam().precision,
                              .row_format = is_f32 ? RowFormat::kF32 : RowFormat::kBf16};
  Report report(stdout);
  const absl::Status status =
      CheckGolden(std::string("tests/data/golden/") + GetParam().folder, options, report);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_GT(report.num_passed(), 0);
  EXPECT_EQ(report.num_failed(), 0);
}

// A dense model, one with experts and the MTP module, and rows.
INSTANTIATE_TEST_SUITE_P(Small, GoldenOnCuda,
                         testing::Values(Case{"qwen2_tied", Precision::kBf16},
                                         Case{"qwen2_tied", Precision::kF32},
                                         Case{"mtp", Precision::kBf16},
                                         Case{"fp8_e4m3", Precision::kF32}),
                         [](const auto& info) {
                           return std::string(info.param.folder) +
                                  (info.param.precision == Precision::kF32 ? "_f32" : "_bf16");
                         });

}  // namespace
}  // namespace orrery
