#include <cmath>

#include "checkpoint/model_config.h"
#include "checkpoint/published_models.h"
#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

// Both sides are computed in f64 or better by a handful of operations.
constexpr double kRelativeError = 1e-12;

TEST(Rope, GivesTheGoldenTablesOfThePublishedModels) {
  const Json golden = ReadJsonFile(GoldenDir("rope_tables/golden.json"));
  ASSERT_FALSE(golden["models"].empty());
  for (const auto& [name, expected] : golden["models"].items()) {
    const absl::StatusOr<ModelConfig> config = PublishedModelConfig(name);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->rope.dim, expected["rope_dim"]) << name;
    EXPECT_EQ(config->rope.interleaved, expected["layout"] == "interleaved") << name;
    const double scale = expected["softmax_scale"];
    EXPECT_NEAR(config->softmax_scale, scale, scale * kRelativeError) << name;
    const std::vector<double> frequencies = InverseFrequencies(config->rope);
    ASSERT_EQ(frequencies.size(), expected["inv_freq"].size()) << name;
    for (size_t pair = 0; pair < frequencies.size(); ++pair) {
      const double frequency = expected["inv_freq"][pair];
      EXPECT_NEAR(frequencies[pair], frequency, frequency * kRelativeError)
          << name << " pair " << pair;
    }
  }
}

TEST(Rope, KnowsNoUnpublishedModel) {
  EXPECT_EQ(PublishedModelConfig("deepseek_v9").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(PublishedModelConfig("deepseek_v9").status().message()),
              testing::HasSubstr("deepseek_v2_lite"));
  for (const PublishedModel& model : PublishedModels()) {
    EXPECT_TRUE(PublishedModelConfig(model.name).ok()) << model.name;
  }
}

// A ramp without width (all pairs fast or all slow) must not divide by zero.
TEST(Rope, YarnSurvivesARampWithoutWidth) {
  RopeConfig rope;
  rope.scaling = RopeConfig::Scaling::kYarn;
  rope.dim = 8;
  rope.factor = 4;
  for (const int original : {1, 16, 4096, 1 << 30}) {
    rope.original_max_positions = original;
    for (const double frequency : InverseFrequencies(rope)) {
      EXPECT_TRUE(std::isfinite(frequency) && frequency > 0) << original;
    }
  }
}

}  // namespace
}  // namespace orrery
