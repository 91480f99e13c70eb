// config.json of DeepSeek-V2, -V3 and -R1. Meaning of the fields: deepseek-ai/DeepSeek-V3
// inference/model.py, and modeling_deepseek.py of the V2 and V3 repositories on Hugging Face.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "checkpoint/config_fields.h"

namespace orrery {
namespace {

using ScoringFunc = ModelConfig::ScoringFunc;
using TopkMethod = ModelConfig::TopkMethod;

void ReadAttention(JsonReader& fields, ModelConfig& config) {
  config.attention = ModelConfig::AttentionKind::kMla;
  config.q_lora_rank = fields.IntOr("q_lora_rank", 0, {0, kMaxWidth});
  config.kv_lora_rank = fields.Int("kv_lora_rank", {1, kMaxWidth});
  config.qk_nope_head_dim = fields.Int("qk_nope_head_dim", {1, kMaxWidth});
  config.qk_rope_head_dim = fields.Int("qk_rope_head_dim", {2, kMaxWidth});
  config.v_head_dim = fields.Int("v_head_dim", {1, kMaxWidth});
  if (config.qk_rope_head_dim % 2 != 0) fields.Refuse("qk_rope_head_dim", "must be even");
  const int64_t q_head_dim = int64_t{config.qk_nope_head_dim} + config.qk_rope_head_dim;
  const int64_t kv_head_dim = int64_t{config.qk_nope_head_dim} + config.v_head_dim;
  if (std::max(q_head_dim, kv_head_dim) * config.num_heads > kMaxHeadsWidth) {
    fields.Refuse("num_attention_heads",
                  absl::StrCat("times the head sizes exceeds ", kMaxHeadsWidth));
  }
  // num_key_value_heads stands in the files, but MLA has one latent for all heads.
  fields.IntOr("num_key_value_heads", 1, {1, kMaxHeads});

  config.rope.dim = config.qk_rope_head_dim;
  config.rope.interleaved = fields.BoolOr("rope_interleave", true);
  ReadRopeFields(fields, config);
  // The temperature applies to queries and keys alike, hence the square.
  const double temperature = config.rope.scaling == RopeConfig::Scaling::kYarn
                                 ? YarnTemperature(config.rope.factor, config.rope.mscale_all_dim)
                                 : 1.0;
  config.softmax_scale =
      temperature * temperature / std::sqrt(static_cast<double>(std::max<int64_t>(q_head_dim, 1)));
}

void ReadGateKind(JsonReader& fields, bool default_sigmoid, ModelConfig& config) {
  const std::string scoring =
      fields.StringOr("scoring_func", default_sigmoid ? "sigmoid" : "softmax");
  if (scoring == "sigmoid" || scoring == "softmax") {
    config.scoring_func = scoring == "sigmoid" ? ScoringFunc::kSigmoid : ScoringFunc::kSoftmax;
  } else {
    fields.Refuse("scoring_func", "we implement sigmoid and softmax");
  }
  const std::string method =
      fields.StringOr("topk_method", default_sigmoid ? "noaux_tc" : "greedy");
  if (method == "noaux_tc") {
    config.topk_method = TopkMethod::kNoauxTc;
  } else if (method == "group_limited_greedy") {
    config.topk_method = TopkMethod::kGroupLimitedGreedy;
  } else if (method == "greedy") {
    config.topk_method = TopkMethod::kGreedy;
  } else {
    fields.Refuse("topk_method", "we implement noaux_tc, group_limited_greedy and greedy");
  }
}

// Groups, and how many experts are left to choose from.
void ReadGroups(JsonReader& fields, ModelConfig& config) {
  const int num_groups = fields.IntOr("n_group", 1, {1, kMaxExperts});
  const int num_kept = fields.IntOr("topk_group", 1, {1, kMaxExperts});
  if (config.topk_method == TopkMethod::kGreedy) {
    config.num_groups = config.num_kept_groups = 1;  // Plain greedy looks at no groups.
  } else {
    config.num_groups = num_groups;
    // One group: the official code skips the limit whatever topk_group says.
    config.num_kept_groups = num_groups == 1 ? 1 : num_kept;
  }
  if (config.num_experts % config.num_groups != 0) {
    fields.Refuse("n_group", absl::StrCat("does not divide n_routed_experts ", config.num_experts));
    return;
  }
  if (config.num_kept_groups > config.num_groups) {
    fields.Refuse("topk_group", absl::StrCat("exceeds n_group ", config.num_groups));
    return;
  }
  const int group_size = config.num_experts / config.num_groups;
  if (config.topk_method == TopkMethod::kNoauxTc && config.num_groups > 1 && group_size < 2) {
    fields.Refuse("n_group",
                  "leaves one expert per group, but noaux_tc scores a group by its best two");
  }
  const int num_available = config.num_kept_groups * group_size;
  if (config.num_experts_per_token > num_available) {
    fields.Refuse("num_experts_per_tok",
                  absl::StrCat("exceeds the ", num_available, " experts of the kept groups"));
  }
}

// V2 normalises the chosen weights or scales them; V3, and the official code wherever scores are
// sigmoids, does both. One chosen expert is never normalised: its weight would always be 1.
void ReadWeightRule(JsonReader& fields, ModelConfig& config) {
  const bool normalize = fields.Bool("norm_topk_prob") && config.num_experts_per_token > 1;
  const double scale = fields.Number("routed_scaling_factor", {1e-6, 1e6});
  const bool v2_rule =
      config.scoring_func == ScoringFunc::kSoftmax && config.topk_method != TopkMethod::kNoauxTc;
  config.normalize_weights = normalize;
  config.weight_scale = v2_rule && normalize ? 1.0 : scale;
}

void ReadMoe(JsonReader& fields, bool default_sigmoid, ModelConfig& config) {
  config.layer_is_moe.assign(config.num_layers, false);
  config.num_experts = fields.IntOr("n_routed_experts", 0, {0, kMaxExperts});
  if (config.num_experts == 0) return;
  const int first_moe = fields.Int("first_k_dense_replace", {0, kMaxLayers});
  const int frequency = fields.IntOr("moe_layer_freq", 1, {1, kMaxLayers});
  bool any = false;
  for (int layer = first_moe; layer < config.num_layers; ++layer) {
    config.layer_is_moe[layer] = layer % frequency == 0;
    any = any || config.layer_is_moe[layer];
  }
  if (!any) {
    config.num_experts = 0;
    return;
  }
  config.num_experts_per_token = fields.Int("num_experts_per_tok", {1, kMaxExperts});
  config.num_shared_experts = fields.IntOr("n_shared_experts", 0, {0, kMaxExperts});
  config.moe_intermediate_size = fields.Int("moe_intermediate_size", {1, kMaxWidth});
  if (int64_t{config.num_shared_experts} * config.moe_intermediate_size > kMaxWidth) {
    fields.Refuse("n_shared_experts",
                  absl::StrCat("times moe_intermediate_size exceeds ", kMaxWidth));
  }
  ReadGateKind(fields, default_sigmoid, config);
  ReadGroups(fields, config);
  ReadWeightRule(fields, config);
}

// fp8 with one f32 scale per block is the only stored quantisation; what is fp8 is decided by each
// tensor's dtype. Activation quantisation (activation_scheme, scale_fmt) is not part of the
// weights' meaning.
void ReadQuantization(JsonReader& fields, ModelConfig& config) {
  const Json& value = fields.Value("quantization_config");
  if (value.is_null()) return;
  JsonReader quant(value, absl::StrCat(fields.where(), ": quantization_config"));
  if (quant.String("quant_method") != "fp8" && quant.Has("quant_method")) {
    quant.Refuse("quant_method", "we implement fp8");
  }
  if (quant.StringOr("fmt", "e4m3") != "e4m3") quant.Refuse("fmt", "we implement e4m3");
  if (quant.StringOr("activation_scheme", "dynamic") != "dynamic") {
    quant.Refuse("activation_scheme", "we implement dynamic");
  }
  const std::string scale_format = quant.StringOr("scale_fmt", "float");
  if (scale_format != "float" && scale_format != "ue8m0") {
    quant.Refuse("scale_fmt", "we implement f32 scales, of any value or powers of two (ue8m0)");
  }
  const Json& block = quant.Value("weight_block_size");
  if (!block.is_array() || block.size() != 2 || !block[0].is_number_integer() ||
      !block[1].is_number_integer()) {
    quant.Refuse("weight_block_size", "must be two integers [outputs, inputs]");
  } else if (block[0] < 16 || block[0] > kMaxWidth || block[0].get<int64_t>() % 16 != 0 ||
             block[1] < 32 || block[1] > kMaxWidth || block[1].get<int64_t>() % 32 != 0) {
    // What the tiles of the kernels can follow.
    quant.Refuse("weight_block_size",
                 "must be a multiple of 16 outputs by a multiple of 32 inputs");
  } else {
    config.weight_block_outputs = block[0].get<int>();
    config.weight_block_inputs = block[1].get<int>();
  }
  quant.RefuseUnknown({"quant_method", "fmt", "activation_scheme", "scale_fmt", "weight_block_size",
                       "modules_to_not_convert", "ignored_layers"});
  fields.Include(quant);
}

}  // namespace

void ReadDeepseekFields(JsonReader& fields, bool default_sigmoid, ModelConfig& config) {
  ReadAttention(fields, config);
  ReadMoe(fields, default_sigmoid, config);
  ReadQuantization(fields, config);
  config.num_mtp_layers = fields.IntOr("num_nextn_predict_layers", 0, {0, 16});
  for (const std::string_view name : {"index_topk", "index_n_heads", "index_head_dim"}) {
    if (fields.Has(name)) {
      fields.Refuse(name, "the sparse attention of DeepSeek-V3.2 is not implemented");
    }
  }
}

}  // namespace orrery
