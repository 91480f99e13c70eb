#include "kernels/factory/make_kernels.h"

#include <gtest/gtest.h>

#include <string>

namespace orrery {
namespace {

TEST(MakeKernels, ParsesTheNamesOfFlags) {
  EXPECT_EQ(*ParseBackend("cpu"), Backend::kCpu);
  EXPECT_EQ(*ParseBackend("reference"), Backend::kReference);
  EXPECT_EQ(*ParseBackend("cuda"), Backend::kCuda);
  EXPECT_EQ(ParseBackend("gpu").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(*ParseCpuVariant("best"), CpuVariant::kBest);
  EXPECT_EQ(*ParseCpuVariant("avx2"), CpuVariant::kAvx2);
  EXPECT_EQ(ParseCpuVariant("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MakeKernels, GivesEveryBackendItsFamily) {
  const auto reference = MakeKernels(Backend::kReference, CpuVariant::kBest, nullptr);
  ASSERT_TRUE(reference.ok());
  EXPECT_EQ((*reference)->family(), "reference-1");
  const auto scalar = MakeKernels(Backend::kCpu, CpuVariant::kScalar, nullptr);
  ASSERT_TRUE(scalar.ok());
  EXPECT_EQ((*scalar)->family(), "x86-1");
  EXPECT_EQ((*scalar)->variant(), "scalar");
}

// Here without a GPU's stream, and in most builds without CUDA.
TEST(MakeKernels, RefusesCudaWhereItCannotBe) {
  const absl::Status status = MakeKernels(Backend::kCuda, CpuVariant::kBest, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

TEST(MakeKernels, PicksTheBestVariantOfThisMachine) {
  const auto best = MakeKernels(Backend::kCpu, CpuVariant::kBest, nullptr);
  ASSERT_TRUE(best.ok());
  EXPECT_NE(SupportedCpuVariants().find(std::string((*best)->variant())), std::string::npos);
}

// On a machine that has everything there is nothing to refuse.
TEST(MakeKernels, RefusesAVariantThatThisMachineLacks) {
  for (const char* name : {"avx2", "avx512", "avx512bf16", "amx"}) {
    const absl::Status status =
        MakeKernels(Backend::kCpu, *ParseCpuVariant(name), nullptr).status();
    const bool supported = SupportedCpuVariants().find(name) != std::string::npos;
    EXPECT_EQ(status.code(),
              supported ? absl::StatusCode::kOk : absl::StatusCode::kFailedPrecondition)
        << status;
  }
}

}  // namespace
}  // namespace orrery
