#include "checkpoint/model_config.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "checkpoint/published_models.h"
#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<ModelConfig> Parse(const Json& config, const std::string& generation = "") {
  return ParseModelConfig(config.dump(), generation, "config.json");
}

Json Published(std::string_view name) {
  for (const PublishedModel& model : PublishedModels()) {
    if (model.name == name) return Json::parse(model.config_json);
  }
  ADD_FAILURE() << name;
  return Json();
}
Json V3() { return Published("deepseek_v3"); }

TEST(ModelConfig, ReadsEveryGoldenModelAndTheBundledOne) {
  const std::vector<std::string> models = GoldenModels();
  EXPECT_FALSE(models.empty());
  for (const std::string& model : models) {
    const absl::StatusOr<ModelConfig> config = ReadModelConfig(GoldenDir(model));
    EXPECT_TRUE(config.ok()) << model << ": " << config.status();
  }
  const absl::StatusOr<ModelConfig> abacus = ReadModelConfig(kAbacusDir);
  ASSERT_TRUE(abacus.ok()) << abacus.status();
  EXPECT_EQ(abacus->num_layers, 5);
  EXPECT_EQ(abacus->num_mtp_layers, 1);
  EXPECT_THAT(abacus->layer_is_moe, ElementsAre(false, true, true, true, true));
  EXPECT_EQ(abacus->weight_scale, 2.0);
  EXPECT_EQ(abacus->kv_row_width(), 80);
  EXPECT_EQ(abacus->bos_id, 0);
  EXPECT_THAT(abacus->eos_ids, ElementsAre(1));
  EXPECT_EQ(abacus->rope.scaling, RopeConfig::Scaling::kNone);
  EXPECT_TRUE(abacus->rope.interleaved);
}

TEST(ModelConfig, ReadsDeepseekV3) {
  const absl::StatusOr<ModelConfig> config = Parse(V3());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->attention, ModelConfig::AttentionKind::kMla);
  EXPECT_EQ(config->kv_row_width(), 576);
  EXPECT_EQ(config->num_experts, 256);
  EXPECT_EQ(config->num_groups, 8);
  EXPECT_EQ(config->num_kept_groups, 4);
  EXPECT_EQ(config->scoring_func, ModelConfig::ScoringFunc::kSigmoid);
  EXPECT_EQ(config->topk_method, ModelConfig::TopkMethod::kNoauxTc);
  EXPECT_TRUE(config->normalize_weights);
  EXPECT_EQ(config->weight_scale, 2.5);
  EXPECT_FALSE(config->is_moe_layer(2));
  EXPECT_TRUE(config->is_moe_layer(3));
  EXPECT_EQ(config->weight_block_outputs, 128);
  EXPECT_EQ(config->weight_block_inputs, 128);
}

TEST(ModelConfig, ReadsTheDistills) {
  const absl::StatusOr<ModelConfig> qwen = Parse(Published("r1_distill_qwen_1.5b"));
  ASSERT_TRUE(qwen.ok()) << qwen.status();
  EXPECT_EQ(qwen->attention, ModelConfig::AttentionKind::kGqa);
  EXPECT_TRUE(qwen->qkv_bias);
  EXPECT_EQ(qwen->head_dim, 128);
  EXPECT_EQ(qwen->num_experts, 0);
  EXPECT_FALSE(qwen->is_moe_layer(27));
  EXPECT_FALSE(qwen->rope.interleaved);
  const absl::StatusOr<ModelConfig> llama = Parse(Published("r1_distill_llama_8b"));
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_FALSE(llama->qkv_bias);
  EXPECT_EQ(llama->rope.scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(llama->kv_row_width(), 2048);
}

// V2 normalises or scales, V3 does both, and one expert is never normalised.
TEST(ModelConfig, SettlesTheWeightRule) {
  struct Case {
    const char* scoring;
    const char* method;
    bool norm;
    int topk;
    bool normalize;
    double scale;
  };
  for (const Case& c : {Case{"softmax", "greedy", false, 6, false, 16.0},
                        Case{"softmax", "greedy", true, 6, true, 1.0},
                        Case{"softmax", "group_limited_greedy", true, 1, false, 16.0},
                        Case{"sigmoid", "noaux_tc", true, 6, true, 16.0},
                        Case{"sigmoid", "noaux_tc", true, 1, false, 16.0},
                        Case{"sigmoid", "noaux_tc", false, 6, false, 16.0}}) {
    Json json = V3();
    json["scoring_func"] = c.scoring;
    json["topk_method"] = c.method;
    json["norm_topk_prob"] = c.norm;
    json["num_experts_per_tok"] = c.topk;
    json["routed_scaling_factor"] = 16.0;
    const absl::StatusOr<ModelConfig> config = Parse(json);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->normalize_weights, c.normalize) << c.scoring << " " << c.method;
    EXPECT_EQ(config->weight_scale, c.scale) << c.scoring << " " << c.method;
  }
}

TEST(ModelConfig, PlacesMoeLayers) {
  Json json = V3();
  json["num_hidden_layers"] = 6;
  json["first_k_dense_replace"] = 1;
  json["moe_layer_freq"] = 2;
  EXPECT_THAT(Parse(json)->layer_is_moe, ElementsAre(false, false, true, false, true, false));
  json["first_k_dense_replace"] = 6;
  EXPECT_EQ(Parse(json)->num_experts, 0) << "dense only";
  json["first_k_dense_replace"] = 0;
  json["n_routed_experts"] = nullptr;
  EXPECT_EQ(Parse(json)->num_experts, 0) << "dense only";
}

TEST(ModelConfig, GreedyKnowsNoGroups) {
  Json json = V3();
  json["topk_method"] = "greedy";
  const absl::StatusOr<ModelConfig> config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_groups, 1);
  EXPECT_EQ(config->num_kept_groups, 1);
}

TEST(ModelConfig, FillsInWhatNewerFilesLeaveOut) {
  Json v3 = V3();
  v3.erase("scoring_func");
  v3.erase("topk_method");
  v3.erase("moe_layer_freq");
  EXPECT_EQ(Parse(v3)->topk_method, ModelConfig::TopkMethod::kNoauxTc);
  EXPECT_EQ(Parse(v3)->scoring_func, ModelConfig::ScoringFunc::kSigmoid);
  Json v2 = Published("deepseek_v2_lite");
  v2.erase("scoring_func");
  v2.erase("topk_method");
  EXPECT_EQ(Parse(v2)->topk_method, ModelConfig::TopkMethod::kGreedy);
  EXPECT_EQ(Parse(v2)->scoring_func, ModelConfig::ScoringFunc::kSoftmax);
}

TEST(ModelConfig, ReadsHalfSplitRopeOnMla) {
  Json json = V3();
  json["rope_interleave"] = false;
  EXPECT_FALSE(Parse(json)->rope.interleaved);
}

TEST(ModelConfig, CollectsTokenIdsFromBothFiles) {
  Json json = V3();
  json["bos_token_id"] = 5;
  json["eos_token_id"] = {7, 8};
  const absl::StatusOr<ModelConfig> config =
      Parse(json, R"({"bos_token_id": 6, "eos_token_id": [8, 9], "top_p": 0.9})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->bos_id, 6);
  EXPECT_THAT(config->eos_ids, ElementsAre(7, 8, 9));
  json.erase("bos_token_id");
  json["eos_token_id"] = nullptr;
  EXPECT_EQ(Parse(json)->bos_id, -1);
  EXPECT_TRUE(Parse(json)->eos_ids.empty());
}

TEST(ModelConfig, IgnoresTrainingAndFieldsThatAreOff) {
  Json json = V3();
  json["attention_dropout"] = 0.1;
  json["transformers_version"] = "4.46.3";
  json["new_feature"] = false;
  json["another"] = nullptr;
  EXPECT_TRUE(Parse(json).ok());
}

struct Refusal {
  const char* model;
  const char* pointer;  // into the JSON
  const char* value;    // JSON; "absent" removes the field
  const char* message;  // part of it
};

class ModelConfigRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(ModelConfigRefuses, AFieldThatWeDoNotImplementByName) {
  const Refusal& refusal = GetParam();
  Json json = Published(refusal.model);
  const Json::json_pointer pointer(refusal.pointer);
  if (std::string_view(refusal.value) == "absent") {
    json.at(pointer.parent_pointer()).erase(pointer.back());
  } else {
    json[pointer] = Json::parse(refusal.value);
  }
  const absl::StatusOr<ModelConfig> config = Parse(json);
  ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << refusal.pointer;
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(refusal.message));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("config.json: "));
}

constexpr char kMla[] = "deepseek_v3";
constexpr char kQwen[] = "r1_distill_qwen_1.5b";
constexpr char kLlama[] = "r1_distill_llama_8b";

INSTANTIATE_TEST_SUITE_P(
    All, ModelConfigRefuses,
    testing::Values(
        // The architecture.
        Refusal{kMla, "/architectures", R"(["DeepseekV4ForCausalLM"])", "DeepseekV4ForCausalLM"},
        Refusal{kMla, "/architectures", R"([])", "architectures is []"},
        Refusal{kMla, "/architectures", R"(["DeepseekV3ForCausalLM", "X"])", "a list of one name"},
        Refusal{kMla, "/model_type", R"("deepseek_v4")", "model_type is \"deepseek_v4\""},
        Refusal{kMla, "/model_type", R"("qwen2")", "contradicts architectures"},
        Refusal{kMla, "/model_type", "3", "model_type is 3: must be a string"},
        // Missing, of the wrong type, absurd.
        Refusal{kMla, "/hidden_size", "absent", "hidden_size is missing"},
        Refusal{kMla, "/hidden_size", "\"7168\"", "hidden_size is \"7168\": must be an integer"},
        Refusal{kMla, "/hidden_size", "-1", "hidden_size is -1"},
        Refusal{kMla, "/hidden_size", "1e12", "hidden_size is 1000000000000"},
        Refusal{kMla, "/hidden_size", "99999999999999999999", "hidden_size"},
        Refusal{kMla, "/num_hidden_layers", "0", "num_hidden_layers is 0"},
        Refusal{kMla, "/num_hidden_layers", "100000000", "num_hidden_layers is 100000000"},
        Refusal{kMla, "/vocab_size", "1e3", "vocab_size is 1000.0"},
        Refusal{kMla, "/rms_norm_eps", "-1e-6", "rms_norm_eps is -1e-06"},
        Refusal{kMla, "/rms_norm_eps", "absent", "rms_norm_eps is missing"},
        Refusal{kMla, "/norm_topk_prob", "1", "norm_topk_prob is 1: must be true or false"},
        Refusal{kMla, "/qk_nope_head_dim", "1000000",
                "num_attention_heads is 128: times the head sizes"},
        // The math.
        Refusal{kMla, "/hidden_act", "\"gelu\"", "hidden_act is \"gelu\""},
        Refusal{kMla, "/attention_bias", "true", "attention_bias is true"},
        Refusal{kMla, "/qk_rope_head_dim", "63", "qk_rope_head_dim is 63: must be even"},
        Refusal{kMla, "/some_new_trick", "0.5", "some_new_trick is 0.5"},
        Refusal{kMla, "/index_topk", "2048", "index_topk is 2048"},
        Refusal{kMla, "/index_n_heads", "64", "V3.2"},
        Refusal{kMla, "/rope_interleave", "\"yes\"", "rope_interleave"},
        // Rope.
        Refusal{kMla, "/rope_scaling/type", "\"dynamic\"", "rope_scaling: type is \"dynamic\""},
        Refusal{kMla, "/rope_scaling/type", "\"llama3\"", "rope_scaling: type is \"llama3\""},
        Refusal{kMla, "/rope_scaling/type", "absent", "rope_scaling: type is missing"},
        Refusal{kMla, "/rope_scaling", "4", "rope_scaling: expected an object, found 4"},
        Refusal{kMla, "/rope_scaling/factor", "0.5", "rope_scaling: factor is 0.5"},
        Refusal{kMla, "/rope_scaling/factor", "absent", "rope_scaling: factor is missing"},
        Refusal{kMla, "/rope_scaling/mscale", "0.5",
                "mscale_all_dim is 1.0: must equal mscale (0.5)"},
        Refusal{kMla, "/rope_scaling/mscale_all_dim", "absent", "must equal mscale (1)"},
        Refusal{kMla, "/rope_scaling/beta_slow", "40", "beta_fast is 32: must exceed beta_slow"},
        Refusal{kMla, "/rope_scaling/attention_factor", "1.2", "attention_factor is 1.2"},
        Refusal{kMla, "/rope_scaling/truncate", "false", "truncate is false"},
        Refusal{kMla, "/rope_scaling/long_factor", "[1.0]", "long_factor is [1.0]"},
        Refusal{kMla, "/rope_theta", "0", "rope_theta is 0"},
        Refusal{kMla, "/rope_theta", "absent", "rope_theta is missing"},
        // The gate.
        Refusal{kMla, "/scoring_func", "\"sqrtsoftplus\"", "scoring_func is \"sqrtsoftplus\""},
        Refusal{kMla, "/topk_method", "\"hash\"", "topk_method is \"hash\""},
        Refusal{kMla, "/n_group", "7", "n_group is 7: does not divide n_routed_experts 256"},
        Refusal{kMla, "/n_group", "256", "leaves one expert per group"},
        Refusal{kMla, "/topk_group", "9", "topk_group is 9: exceeds n_group 8"},
        Refusal{kMla, "/num_experts_per_tok", "129", "num_experts_per_tok is 129: exceeds the 128"},
        Refusal{kMla, "/num_experts_per_tok", "0", "num_experts_per_tok is 0"},
        Refusal{kMla, "/moe_layer_freq", "0", "moe_layer_freq is 0"},
        Refusal{kMla, "/moe_layer_freq", "[0, 1]", "moe_layer_freq is [0,1]: must be an integer"},
        Refusal{kMla, "/routed_scaling_factor", "0", "routed_scaling_factor is 0"},
        // fp8.
        Refusal{kMla, "/quantization_config/quant_method", "\"awq\"",
                "quantization_config: quant_method is \"awq\""},
        Refusal{kMla, "/quantization_config/fmt", "\"e5m2\"", "fmt is \"e5m2\""},
        Refusal{kMla, "/quantization_config/activation_scheme", "\"static\"", "activation_scheme"},
        Refusal{kMla, "/quantization_config/weight_block_size", "absent", "weight_block_size"},
        Refusal{kMla, "/quantization_config/weight_block_size", "[128, 100]",
                "weight_block_size is [128,100]"},
        Refusal{kMla, "/quantization_config/weight_block_size", "[8, 128]",
                "multiple of 16 outputs"},
        Refusal{kMla, "/quantization_config/weight_block_size", "[128]", "two integers"},
        // Tokens.
        Refusal{kMla, "/eos_token_id", "129280", "eos_token_id is 129280"},
        Refusal{kMla, "/eos_token_id", "\"</s>\"", "eos_token_id"},
        Refusal{kMla, "/bos_token_id", "-1", "bos_token_id is -1"},
        // Dense models.
        Refusal{kQwen, "/use_sliding_window", "true", "use_sliding_window is true"},
        Refusal{kQwen, "/layer_types", R"(["full_attention", "sliding_attention"])", "layer_types"},
        Refusal{kQwen, "/num_key_value_heads", "5", "does not divide num_attention_heads 12"},
        Refusal{kQwen, "/num_key_value_heads", "absent", "num_key_value_heads is missing"},
        Refusal{kQwen, "/hidden_size", "1540", "hidden_size is 1540: does not split into 12 heads"},
        Refusal{kQwen, "/rope_scaling",
                R"({"type": "yarn", "factor": 4, "original_max_position_embeddings": 32768})",
                "rope_scaling: type is \"yarn\""},
        Refusal{kQwen, "/quantization_config", R"({"quant_method": "gptq"})",
                "quantization_config"},
        Refusal{kLlama, "/head_dim", "127", "head_dim is 127: must be even"},
        Refusal{kLlama, "/mlp_bias", "true", "mlp_bias is true"},
        Refusal{kLlama, "/attention_bias", "true", "attention_bias is true"},
        Refusal{kLlama, "/rope_scaling/high_freq_factor", "0.5", "high_freq_factor is 0.5"},
        Refusal{kLlama, "/rope_scaling/rope_type", "\"longrope\"", "rope_type is \"longrope\""},
        Refusal{kLlama, "/sliding_window", "4096", "sliding_window is 4096"}));

TEST(ModelConfig, ListsAllProblemsAtOnce) {
  Json json = V3();
  json["hidden_act"] = "gelu";
  json["n_group"] = 7;
  json["rope_scaling"]["type"] = "linear";
  const std::string message(Parse(json).status().message());
  EXPECT_THAT(message, HasSubstr("hidden_act"));
  EXPECT_THAT(message, HasSubstr("n_group"));
  EXPECT_THAT(message, HasSubstr("linear"));
}

TEST(ModelConfig, ReportsAMissingFileAndBrokenJson) {
  EXPECT_EQ(ReadModelConfig("/nonexistent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(ReadModelConfig("/nonexistent").status().message()),
              HasSubstr("/nonexistent/config.json"));
  const std::string dir = MakeTempDir();
  WriteTempFile(dir, "config.json", "{\"hidden_size\": ");
  EXPECT_EQ(ReadModelConfig(dir).status().code(), absl::StatusCode::kInvalidArgument);
  WriteTempFile(dir, "config.json", V3().dump());
  WriteTempFile(dir, "generation_config.json", R"({"eos_token_id": true})");
  EXPECT_THAT(std::string(ReadModelConfig(dir).status().message()),
              HasSubstr("eos_token_id is true"));
}

}  // namespace
}  // namespace orrery
