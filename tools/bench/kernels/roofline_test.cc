#include "tools/bench/kernels/roofline.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

// Both ceilings meet at 8 flops per byte.
constexpr Ceilings kMachine = {.bytes_per_s = 10e9, .flops_per_s = 80e9};

TEST(Roofline, MemoryBindsWorkOfLowIntensity) {
  const Work work = {.bytes = 20e9, .flops = 40e9};
  EXPECT_EQ(BindingCeiling(work, kMachine), Bound::kMemory);
  EXPECT_DOUBLE_EQ(LeastSeconds(work, kMachine), 2.0);
}

TEST(Roofline, TheInstructionBindsWorkOfHighIntensity) {
  const Work work = {.bytes = 10e9, .flops = 240e9};
  EXPECT_EQ(BindingCeiling(work, kMachine), Bound::kCompute);
  EXPECT_DOUBLE_EQ(LeastSeconds(work, kMachine), 3.0);
}

TEST(Roofline, MemoryIsNamedWhereBothBind) {
  EXPECT_EQ(BindingCeiling({.bytes = 10e9, .flops = 80e9}, kMachine), Bound::kMemory);
}

TEST(Roofline, WorkWithoutOperationsIsBoundByMemory) {
  EXPECT_EQ(BindingCeiling({.bytes = 1.0}, kMachine), Bound::kMemory);
  EXPECT_DOUBLE_EQ(LeastSeconds({.bytes = 10e9}, kMachine), 1.0);
}

TEST(Roofline, WhatIsNotKnownBindsNothing) {
  const Work work = {.bytes = 10e9, .flops = 80e9};
  EXPECT_DOUBLE_EQ(LeastSeconds(work, {.bytes_per_s = 5e9}), 2.0);
  EXPECT_DOUBLE_EQ(LeastSeconds(work, {}), 0.0);
  EXPECT_DOUBLE_EQ(LeastSeconds({}, kMachine), 0.0);
}

}  // namespace
}  // namespace orrery
