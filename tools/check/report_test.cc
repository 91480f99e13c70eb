#include "tools/check/report.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class ReportTest : public ::testing::Test {
 protected:
  ~ReportTest() override { std::fclose(file_); }
  std::string Printed() {
    std::rewind(file_);
    std::string text(4096, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file_));
    return text;
  }
  // Whether the comparison passed.
  bool Passes(const std::vector<float>& actual, const std::vector<float>& expected,
              const Tolerance& tolerance) {
    const int before = report_.num_passed();
    report_.Compare("array", actual, expected, tolerance);
    return report_.num_passed() > before;
  }

  std::FILE* file_ = std::tmpfile();
  Report report_{file_};
};

TEST(CompareValues, GivesLargestAndRootMeanSquareError) {
  const ErrorStats stats = CompareValues({1.0f, 2.0f, 7.0f, 0.0f}, {1.0f, 5.0f, 3.0f, 0.0f});
  EXPECT_DOUBLE_EQ(stats.max, 4.0);
  EXPECT_DOUBLE_EQ(stats.rms, 2.5);
  EXPECT_EQ(CompareValues({}, {}).max, 0.0);
  EXPECT_EQ(CompareValues({}, {}).rms, 0.0);
}

TEST(CompareValues, ANanOnEitherSideIsAnInfiniteError) {
  EXPECT_EQ(CompareValues({kNan, 0.0f}, {0.0f, 0.0f}).max, kInfinity);
  EXPECT_EQ(CompareValues({0.0f}, {kNan}).max, kInfinity);
  EXPECT_EQ(CompareValues({kNan}, {kNan}).max, kInfinity);
  EXPECT_EQ(CompareValues({kInfinity}, {1.0f}).max, kInfinity);
  EXPECT_EQ(CompareValues({kNan, 0.0f}, {0.0f, 0.0f}).rms, kInfinity);
}

TEST_F(ReportTest, PassesUpToTheLimitAndNotBeyond) {
  EXPECT_TRUE(Passes({1.5f, 1.0f}, {1.0f, 1.0f}, {.max = 0.5}));
  EXPECT_FALSE(Passes({1.625f, 1.0f}, {1.0f, 1.0f}, {.max = 0.5}));
  EXPECT_TRUE(Passes({3.0f, 1.0f, 1.0f, 1.0f}, {1.0f, 1.0f, 1.0f, 1.0f}, {.rms = 1.0}));
  EXPECT_FALSE(Passes({3.0f, 2.0f, 1.0f, 1.0f}, {1.0f, 1.0f, 1.0f, 1.0f}, {.rms = 1.0}));
  EXPECT_FALSE(Passes({1.0f, 3.0f}, {1.0f, 1.0f}, {.max = 5.0, .rms = 1.0}));
  EXPECT_FALSE(Passes({kNan}, {1.0f}, {.rms = 100.0}));
  EXPECT_EQ(report_.num_failed(), 4);
}

TEST_F(ReportTest, ArraysOfTwoSizesFailWithBoth) {
  EXPECT_FALSE(Passes({1.0f, 2.0f}, {1.0f, 2.0f, 3.0f}, {.max = 100.0}));
  report_.CompareExact("ids", {1}, {});
  EXPECT_EQ(report_.num_failed(), 2);
  EXPECT_THAT(Printed(),
              AllOf(HasSubstr("2 values, expected 3"), HasSubstr("1 values, expected 0")));
}

TEST_F(ReportTest, ExactArraysNameTheFirstDifference) {
  report_.CompareExact("ids", {1, 2, 3}, {1, 2, 3});
  report_.CompareExact("none", {}, {});
  EXPECT_EQ(report_.num_passed(), 2);
  report_.CompareExact("ids", {1, 17, 4}, {1, 210, 3});
  EXPECT_EQ(report_.num_failed(), 1);
  EXPECT_THAT(Printed(), HasSubstr("differs at 1: 17, expected 210"));
}

TEST_F(ReportTest, PrintsTheErrorsBesideTheirLimits) {
  report_.Title("v3_basic");
  report_.Compare("logits", {1.5f}, {1.0f}, {.max = 0.001, .rms = 1.0});
  EXPECT_THAT(Printed(), AllOf(HasSubstr("v3_basic\n"), HasSubstr("FAIL"), HasSubstr("logits"),
                               HasSubstr("5.0e-01 (limit 1e-03)"), HasSubstr("(limit 1e+00)")));
}

TEST_F(ReportTest, WhatWasSkippedIsLoudAndNeitherPassedNorFailed) {
  report_.Skipped("tokenizer", "tokenizer.json is not here");
  EXPECT_EQ(report_.num_skipped(), 1);
  EXPECT_EQ(report_.num_passed() + report_.num_failed(), 0);
  EXPECT_THAT(Printed(), HasSubstr("SKIPPED  tokenizer: tokenizer.json is not here"));
}

}  // namespace
}  // namespace orrery
