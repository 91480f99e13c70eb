#include "tools/bench/synthetic/synthetic_model.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "checkpoint/chat_template.h"
#include "checkpoint/tokenizer.h"
#include "gtest/gtest.h"
#include "tools/local_cluster.h"

namespace orrery {
namespace {

// A shape with nothing round about it.
SyntheticShape SmallShape(DType projections) {
  return {.name = "small",
          .projections = projections,
          .hidden = 144,
          .vocab_size = 300,
          .max_positions = 128,
          .yarn = projections == DType::kFp8E4m3,
          .num_layers = 2,
          .num_dense_layers = 1,
          .dense_width = 150,
          .expert_width = 70,
          .num_experts = 8,
          .num_experts_per_token = 2,
          .num_shared_experts = 2,
          .num_groups = 2,
          .num_kept_groups = 1,
          .num_heads = 3,
          .q_lora_rank = 33,
          .kv_lora_rank = 20,
          .nope_dim = 10,
          .rope_dim = 6,
          .value_dim = 14};
}

std::string TempDir(const std::string& name) {
  const std::string dir = testing::TempDir() + "/synthetic-" + name;
  std::filesystem::remove_all(dir);
  return dir;
}

std::string Text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Every tensor is there in the shape that the configuration asks for, and no value is odd.
TEST(SyntheticModel, IsLoadedByRanksAndShards) {
  for (const DType projections : {DType::kBf16, DType::kFp8E4m3}) {
    const std::string dir = TempDir("loaded");
    const SyntheticShape shape = SmallShape(projections);
    int64_t last = 0;
    const absl::Status written =
        WriteSyntheticModel(shape, dir, [&](int64_t done, int64_t) { last = done; });
    ASSERT_TRUE(written.ok()) << written;
    EXPECT_EQ(last, SyntheticModelBytes(shape));
    const auto cluster = LocalCluster::Create({.model_dir = dir});
    EXPECT_TRUE(cluster.ok()) << cluster.status();
  }
}

TEST(SyntheticModel, HasATokenizerAndAChatTemplate) {
  const std::string dir = TempDir("tokenizer");
  ASSERT_TRUE(WriteSyntheticModel(SmallShape(DType::kBf16), dir).ok());
  const absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Open(dir);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = tokenizer->Encode("<｜User｜>A\n", SpecialText::kRecognize);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, (std::vector<int32_t>{2, 4 + 'A', 4 + '\n'}));
  const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Open(dir);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ(chat_template->habits().assistant, "<｜Assistant｜>");
}

TEST(SyntheticModel, IsTheSameEveryTimeAndWrittenOnce) {
  const std::string dir = TempDir("twice");
  const SyntheticShape shape = SmallShape(DType::kBf16);
  const std::string weights = dir + "/model-00001-of-000001.safetensors";
  ASSERT_TRUE(WriteSyntheticModel(shape, dir).ok());
  const std::string bytes = Text(weights);
  EXPECT_GT(bytes.size(), static_cast<size_t>(SyntheticModelBytes(shape)));

  std::filesystem::remove(dir + "/config.json");  // as if it had been interrupted
  ASSERT_TRUE(WriteSyntheticModel(shape, dir).ok());
  EXPECT_EQ(Text(weights), bytes);

  std::ofstream(weights, std::ios::trunc) << "mine";
  ASSERT_TRUE(WriteSyntheticModel(shape, dir).ok());
  EXPECT_EQ(Text(weights), "mine");
}

TEST(SyntheticShape, PresetsHaveTheSizesTheyAreNamedFor) {
  const absl::StatusOr<SyntheticShape> mini = FindSyntheticShape("v3-mini");
  const absl::StatusOr<SyntheticShape> layer = FindSyntheticShape("r1-layer");
  ASSERT_TRUE(mini.ok() && layer.ok());
  EXPECT_NEAR(SyntheticModelBytes(*mini) / 2e9, 2.3, 0.1);    // parameters of 2 bytes
  EXPECT_NEAR(SyntheticModelBytes(*layer) / 1e9, 11.6, 0.1);  // of one, mostly
  EXPECT_FALSE(FindSyntheticShape("v3").ok());
}

}  // namespace
}  // namespace orrery
