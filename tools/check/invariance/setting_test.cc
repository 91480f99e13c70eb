#include "tools/check/invariance/setting.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

SettingLimits Everything() {
  return {.num_experts = 16,
          .has_mtp = true,
          .variants = {CpuVariant::kAmx, CpuVariant::kAmxModel, CpuVariant::kAvx512Bf16,
                       CpuVariant::kAvx512, CpuVariant::kAvx2}};
}

std::string ErrorOf(std::string_view text) {
  const auto setting = ParseSetting(text);
  EXPECT_EQ(setting.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(setting.status().message());
}

TEST(Setting, TextAndSettingAreTheSameThing) {
  EXPECT_EQ(FormatSetting({}), "plain");
  EXPECT_EQ(*ParseSetting("plain"), Setting());
  const Setting setting = {.batch = 64,
                           .chunk = 16,
                           .prefix = Setting::kWarm,
                           .cache = Setting::kTight,
                           .drafts = 2,
                           .variant = static_cast<int>(CpuVariant::kAvx2)};
  EXPECT_EQ(FormatSetting(setting), "batch=64,chunk=16,prefix=warm,cache=tight,mtp=2,variant=avx2");
  for (const Setting& one : ChooseSettings(Everything(), {.num_random = 50})) {
    const auto again = ParseSetting(FormatSetting(one));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, one) << FormatSetting(one);
  }
}

TEST(Setting, WrongTextIsRefusedWithWhatWouldBeRight) {
  EXPECT_THAT(ErrorOf("ranks=4"), AllOf(HasSubstr("\"4\""), HasSubstr("1, 2, 3")));
  EXPECT_THAT(ErrorOf("rank=2"), AllOf(HasSubstr("rank=2"), HasSubstr("ranks, shards")));
  EXPECT_THAT(ErrorOf("ranks=2,ranks=2"), HasSubstr("twice"));
  EXPECT_THAT(ErrorOf("ranks"), HasSubstr("AXIS=VALUE"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("AXIS=VALUE"));
  EXPECT_THAT(ErrorOf("cache=tight"), HasSubstr("batch=64"));
}

TEST(ChooseSettings, ShowEveryPairOfValuesThatDoNotExcludeEachOther) {
  const std::vector<Setting> settings = ChooseSettings(Everything(), {});
  for (const Axis& a : AllAxes()) {
    for (const Axis& b : AllAxes()) {
      if (a.field == b.field) continue;
      for (const AxisValue& x : a.values) {
        for (const AxisValue& y : b.values) {
          const std::string text = a.name + "=" + x.name + "," + b.name + "=" + y.name;
          if (text.find("best") != std::string::npos) continue;    // avx512bf16, here
          if (text.find("scalar") != std::string::npos) continue;  // not in Everything()
          const bool excluded = text == "batch=1,cache=tight" || text == "cache=tight,batch=1";
          EXPECT_EQ(std::any_of(settings.begin(), settings.end(),
                                [&](const Setting& s) {
                                  return s.*a.field == x.value && s.*b.field == y.value;
                                }),
                    !excluded)
              << text;
        }
      }
    }
  }
}

TEST(ChooseSettings, StayWithinModelAndMachine) {
  const SettingLimits dense = {.variants = {}};
  for (const Setting& setting : ChooseSettings(dense, {.num_random = 50})) {
    EXPECT_EQ(setting.shards, 1);
    EXPECT_EQ(setting.transport, Setting::kLoopback);
    EXPECT_EQ(setting.drafts, 0);
    EXPECT_EQ(setting.cpu_variant(), CpuVariant::kBest);
    EXPECT_TRUE(CheckSetting(setting, dense).ok());
  }
  SettingLimits three_experts = Everything();
  three_experts.num_experts = 3;
  for (const Setting& setting : ChooseSettings(three_experts, {.num_random = 50})) {
    EXPECT_LE(setting.shards, 2);
  }
  const absl::Status status = CheckSetting({.drafts = 1}, dense);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("mtp=1"));
}

TEST(ChooseSettings, AddRandomOnesBySeedWithoutRepetitionGroupedByCluster) {
  const std::vector<Setting> pairwise = ChooseSettings(Everything(), {});
  const std::vector<Setting> settings = ChooseSettings(Everything(), {.num_random = 30});
  EXPECT_GT(settings.size(), pairwise.size() + 20);
  EXPECT_EQ(ChooseSettings(Everything(), {.num_random = 30}), settings);
  EXPECT_NE(ChooseSettings(Everything(), {.num_random = 30, .seed = 2}), settings);
  EXPECT_TRUE(ChooseSettings(Everything(), {.pairwise = false}).empty());
  std::set<std::string> texts;
  int num_clusters = 1;
  for (size_t i = 0; i < settings.size(); ++i) {
    texts.insert(FormatSetting(settings[i]));
    if (i > 0 && !ShareCluster(settings[i - 1], settings[i])) ++num_clusters;
  }
  EXPECT_EQ(texts.size(), settings.size());
  EXPECT_LE(num_clusters, 3 * 3 * 2 * 2 * 2);
}

}  // namespace
}  // namespace orrery
