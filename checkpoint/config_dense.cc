// config.json of Qwen2 and Llama-3, the bases of the R1 distills.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "checkpoint/config_fields.h"

namespace orrery {
namespace {

void ReadAttention(JsonReader& fields, ModelConfig& config) {
  config.attention = ModelConfig::AttentionKind::kGqa;
  config.num_kv_heads = fields.Int("num_key_value_heads", {1, kMaxHeads});
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.Refuse("num_key_value_heads",
                  absl::StrCat("does not divide num_attention_heads ", config.num_heads));
  }
  if (fields.Has("head_dim")) {
    config.head_dim = fields.Int("head_dim", {2, kMaxWidth});
    if (config.head_dim % 2 != 0) fields.Refuse("head_dim", "must be even");
  } else if (config.hidden_size % (2 * config.num_heads) == 0) {
    config.head_dim = config.hidden_size / config.num_heads;
  } else {
    fields.Refuse("hidden_size", absl::StrCat("does not split into ", config.num_heads,
                                              " heads of an even size, and there is no head_dim"));
    config.head_dim = 2;
  }
  if (int64_t{config.head_dim} * config.num_heads > kMaxHeadsWidth) {
    fields.Refuse("num_attention_heads", absl::StrCat("times head_dim exceeds ", kMaxHeadsWidth));
  }
  config.softmax_scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  config.rope.dim = config.head_dim;
  config.rope.interleaved = false;
  ReadRopeFields(fields, config);
}

// Qwen2 files describe a sliding window and then switch it off.
void RefuseWindows(JsonReader& fields) {
  if (fields.BoolOr("use_sliding_window", false)) {
    fields.Refuse("use_sliding_window", "attention with a window is not implemented");
  }
  if (fields.BoolOr("use_mrope", false)) {
    fields.Refuse("use_mrope", "multimodal rotary positions are not implemented");
  }
  const Json& layer_types = fields.Value("layer_types");
  if (layer_types.is_null()) return;
  bool full = layer_types.is_array();
  for (const Json& type : layer_types) full = full && type == "full_attention";
  if (!full) fields.Refuse("layer_types", "we implement full_attention in every layer");
}

}  // namespace

void ReadDenseFields(JsonReader& fields, bool is_qwen2, ModelConfig& config) {
  ReadAttention(fields, config);
  RefuseWindows(fields);
  if (fields.BoolOr("mlp_bias", false)) fields.Refuse("mlp_bias", "not implemented");
  if (fields.Has("quantization_config")) {
    fields.Refuse("quantization_config", "dense models are read in bf16, f16 or f32");
  }
  config.qkv_bias = is_qwen2;
  config.layer_is_moe.assign(config.num_layers, false);
}

}  // namespace orrery
