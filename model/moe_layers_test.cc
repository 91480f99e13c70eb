#include "model/moe_layers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

ModelConfig Config(std::vector<bool> layer_is_moe, int num_experts) {
  ModelConfig config;
  config.num_layers = static_cast<int>(layer_is_moe.size());
  config.layer_is_moe = std::move(layer_is_moe);
  config.num_experts = num_experts;
  return config;
}

TEST(MoeLayers, AreThoseOfTheModelAndTheMtpModuleBehindThem) {
  const ModelConfig config = Config({false, true, false, true}, 8);
  EXPECT_THAT(MoeLayers(config, /*with_mtp=*/false), ElementsAre(1, 3));
  EXPECT_THAT(MoeLayers(config, /*with_mtp=*/true), ElementsAre(1, 3, 4));
  EXPECT_FALSE(IsMoeLayer(config, 2));
  EXPECT_TRUE(IsMoeLayer(config, 4));
}

TEST(MoeLayers, ADenseModelHasNone) {
  EXPECT_THAT(MoeLayers(Config({false, false}, 0), /*with_mtp=*/true), IsEmpty());
}

}  // namespace
}  // namespace orrery
