// Promise 1 on whole models, trimmed: few requests through a covering array of settings.
// `./orrery check invariance --full` is the same with 200 prompts.
#include <cstdio>
#include <string>

#include "base/log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/check/invariance/check_invariance.h"

namespace orrery {
namespace {

struct Case {
  std::string model_dir;
  Precision precision = Precision::kBf16;
  int num_prompts = 8;
};

class Invariance : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() { SetLogQuiet(); }
};

TEST_P(Invariance, NoSettingChangesABit) {
  InvarianceOptions options;
  options.cluster.model_dir = GetParam().model_dir;
  options.cluster.numerics.precision = GetParam().precision;
  options.cluster.numerics.row_format =
      GetParam().precision == Precision::kF32 ? RowFormat::kF32 : RowFormat::kBf16;
  options.workload = {.num_prompts = GetParam().num_prompts, .max_new_tokens = 12};
  const auto result = CheckInvariance(options, stdout);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(result->num_settings, 9);
  EXPECT_EQ(result->num_failed, 0);
}

INSTANTIATE_TEST_SUITE_P(All, Invariance,
                         testing::Values(Case{.model_dir = "models/abacus"},
                                         Case{.model_dir = "tests/data/golden/mtp"},
                                         Case{.model_dir = "tests/data/golden/qwen2_tied",
                                              .precision = Precision::kF32}),
                         [](const testing::TestParamInfo<Case>& info) {
                           return info.param.model_dir.substr(info.param.model_dir.rfind('/') + 1);
                         });

TEST(InvarianceOptions, ASettingThatTheModelDoesNotAdmitIsRefused) {
  InvarianceOptions options;
  options.cluster.model_dir = "tests/data/golden/qwen2_tied";
  options.workload.num_prompts = 1;
  options.only = Setting{.shards = 2};
  std::FILE* out = std::tmpfile();
  const absl::Status status = CheckInvariance(options, out).status();
  std::fclose(out);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("shards=2"));
}

}  // namespace
}  // namespace orrery
