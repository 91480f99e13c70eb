#include "model/weight_list.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;

TEST(WeightList, KeysNameAnExpertTheRestOfALayerOrATensor) {
  EXPECT_EQ(RecordKeyOf("model.layers.3.mlp.experts.17.gate_proj.weight"), ExpertRecord(3, 17));
  for (const char* name : {"mlp.shared_experts.up_proj.weight", "mlp.gate.weight", "enorm.weight",
                           "mlp.gate.e_score_correction_bias", "mlp.up_proj.weight"}) {
    EXPECT_EQ(RecordKeyOf(std::string("model.layers.3.") + name), "model.layers.3");
  }
  EXPECT_EQ(RecordKeyOf("model.norm.weight"), "model.norm.weight");
  EXPECT_EQ(RecordKeyOf("lm_head.weight"), "lm_head.weight");
}

TEST(WeightList, RanksLoadEverythingButExperts) {
  ModelConfig config;
  config.num_layers = 2;
  EXPECT_THAT(RankRecords(config, /*with_mtp=*/true),
              ElementsAre("model.embed_tokens.weight", "model.layers.0", "model.layers.1",
                          "model.layers.2", "model.norm.weight", "lm_head.weight"));
  config.tie_word_embeddings = true;
  EXPECT_THAT(RankRecords(config, /*with_mtp=*/false),
              ElementsAre("model.embed_tokens.weight", "model.layers.0", "model.layers.1",
                          "model.norm.weight"));
}

TEST(WeightList, GathersWhatWasAskedForByRecord) {
  WeightLister lister;
  ASSERT_TRUE(lister.Rows("model.embed_tokens", 10, 4).ok());
  ASSERT_TRUE(lister.FeedForward(ExpertRecord(0, 1), 4, 3).ok());
  ASSERT_TRUE(lister.Linear("model.embed_tokens", 10, 4).ok());  // tied
  const std::vector<WeightRecord> records = lister.TakeRecords();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].key, "model.embed_tokens.weight");
  EXPECT_EQ(records[0].items.size(), 2u);
  EXPECT_EQ(records[1].items.size(), 3u);
  EXPECT_EQ(records[1].num_values(), 36);
}

}  // namespace
}  // namespace orrery
