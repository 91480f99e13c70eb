// Every golden folder, through every backend and topology: what the official model code computes,
// this build computes.
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"
#include "tools/check/check_golden.h"

namespace orrery {
namespace {

// The folders that are there, whatever their names.
std::vector<std::string> GoldenDirs() {
  std::vector<std::string> dirs;
  for (const auto& entry : std::filesystem::directory_iterator("tests/data/golden")) {
    if (std::filesystem::exists(entry.path() / "golden.json"))
      dirs.push_back(entry.path().string());
  }
  std::sort(dirs.begin(), dirs.end());
  return dirs;
}

struct Setting {
  std::string name;
  Backend backend = Backend::kCpu;
  CpuVariant variant = CpuVariant::kBest;
  Precision precision = Precision::kF32;
  LocalTransport transport = LocalTransport::kLoopback;
  int num_ranks = 1;
  int num_shards = 1;
  bool force_routing = false;
};

class Golden : public testing::TestWithParam<std::tuple<Setting, std::string>> {};

TEST_P(Golden, IsReproduced) {
  const auto& [setting, dir] = GetParam();
  CheckModelOptions options;
  options.cluster.backend = setting.backend;
  options.cluster.cpu_variant = setting.variant;
  options.cluster.numerics.precision = setting.precision;
  options.cluster.numerics.row_format =
      setting.precision == Precision::kF32 ? RowFormat::kF32 : RowFormat::kBf16;
  options.cluster.transport = setting.transport;
  options.cluster.num_ranks = setting.num_ranks;
  options.cluster.num_shards = setting.num_shards;
  options.force_routing = setting.force_routing;
  Report report(stdout);
  const absl::Status status = CheckGolden(dir, options, report);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(report.num_failed(), 0);
  if (report.num_passed() == 0) {
    GTEST_SKIP() << dir
                 << ": nothing could be checked, its tokenizer.json is not in the repository";
  }
}

std::vector<Setting> Settings() {
  std::vector<Setting> settings = {
      {.name = "reference", .backend = Backend::kReference},
      {.name = "f32", .precision = Precision::kF32},
      {.name = "f32_2ranks_5shards_grpc",
       .transport = LocalTransport::kGrpc,
       .num_ranks = 2,
       .num_shards = 5},
      {.name = "reference_2ranks_5shards_grpc",
       .backend = Backend::kReference,
       .transport = LocalTransport::kGrpc,
       .num_ranks = 2,
       .num_shards = 5},
      {.name = "bf16", .precision = Precision::kBf16},
      {.name = "bf16_forced", .precision = Precision::kBf16, .force_routing = true},
      {.name = "bf16_forced_2ranks_5shards_grpc",
       .precision = Precision::kBf16,
       .transport = LocalTransport::kGrpc,
       .num_ranks = 2,
       .num_shards = 5,
       .force_routing = true},
  };
  return settings;
}

std::string Name(const testing::TestParamInfo<Golden::ParamType>& info) {
  return absl::StrCat(std::get<0>(info.param).name, "_",
                      std::filesystem::path(std::get<1>(info.param)).filename().string());
}

// Folders without a model (tokenizers, templates, numbers) come out the same everywhere: once is enough.
std::vector<std::tuple<Setting, std::string>> Cases() {
  std::vector<std::tuple<Setting, std::string>> cases;
  for (const Setting& setting : Settings()) {
    for (const std::string& dir : GoldenDirs()) {
      const bool is_model = std::filesystem::exists(dir + "/config.json");
      if (is_model || setting.name == "f32") cases.emplace_back(setting, dir);
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, Golden, testing::ValuesIn(Cases()), Name);

}  // namespace
}  // namespace orrery
