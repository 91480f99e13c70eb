#include "tools/bench/loading/loading_bench.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "tools/pack/pack_model.h"

namespace orrery {
namespace {

TEST(LoadingBench, MeasuresAShardAndARankOfAPackedModel) {
  const std::string dir = testing::TempDir() + "/packed";
  std::filesystem::remove_all(dir);
  ASSERT_TRUE(PackModelDir({.model_dir = "models/abacus", .out_dir = dir}, nullptr).ok());
  const auto figures = MeasureLoading({.model_dir = dir, .num_shards = 2, .num_rounds = 1});
  ASSERT_TRUE(figures.ok()) << figures.status();
  ASSERT_EQ(figures->size(), 2u);
  for (const LoadingFigures& member : *figures) {
    EXPECT_GT(member.num_bytes, 1000000);
    EXPECT_GT(member.load_rate, 0);
    EXPECT_GT(member.ratio, 0);
  }
}

TEST(LoadingBench, AsksForAStore) {
  const auto figures = MeasureLoading({.model_dir = "models/abacus"});
  EXPECT_EQ(figures.status().code(), absl::StatusCode::kFailedPrecondition) << figures.status();
}

}  // namespace
}  // namespace orrery
