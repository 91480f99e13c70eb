#include "checkpoint/published_models.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace orrery {
namespace {

constexpr char kDeepseekV3[] = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
  "vocab_size": 129280, "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
  "intermediate_size": 18432, "rms_norm_eps": 1e-6, "hidden_act": "silu",
  "q_lora_rank": 1536, "kv_lora_rank": 512,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
  "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
  "moe_intermediate_size": 2048, "first_k_dense_replace": 3, "moe_layer_freq": 1,
  "n_group": 8, "topk_group": 4, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
  "norm_topk_prob": true, "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1,
  "max_position_embeddings": 163840, "rope_theta": 10000,
  "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
                   "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
  "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                          "weight_block_size": [128, 128]},
  "bos_token_id": 0, "eos_token_id": 1})";

constexpr char kDeepseekV2Lite[] = R"({
  "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
  "vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16,
  "intermediate_size": 10944, "rms_norm_eps": 1e-6, "hidden_act": "silu",
  "q_lora_rank": null, "kv_lora_rank": 512,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
  "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
  "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "moe_layer_freq": 1,
  "n_group": 1, "topk_group": 1, "scoring_func": "softmax", "topk_method": "greedy",
  "norm_topk_prob": false, "routed_scaling_factor": 1.0,
  "max_position_embeddings": 163840, "rope_theta": 10000,
  "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
                   "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707},
  "bos_token_id": 100000, "eos_token_id": 100001})";

// The 8B; the 70B has other sizes, but the same heads and positions.
constexpr char kDistillLlama8b[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
  "intermediate_size": 14336, "rms_norm_eps": 1e-5, "hidden_act": "silu",
  "max_position_embeddings": 131072, "rope_theta": 500000,
  "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
  "bos_token_id": 128000, "eos_token_id": 128001})";

// The 1.5B; the 7B has other sizes, but the same heads and positions.
constexpr char kDistillQwen1p5b[] = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
  "vocab_size": 151936, "hidden_size": 1536, "num_hidden_layers": 28,
  "num_attention_heads": 12, "num_key_value_heads": 2,
  "intermediate_size": 8960, "rms_norm_eps": 1e-6, "hidden_act": "silu",
  "max_position_embeddings": 131072, "rope_theta": 10000, "use_sliding_window": false,
  "bos_token_id": 151646, "eos_token_id": 151643})";

// The 32B; the 14B has other sizes, but the same heads and positions.
constexpr char kDistillQwen32b[] = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
  "vocab_size": 152064, "hidden_size": 5120, "num_hidden_layers": 64,
  "num_attention_heads": 40, "num_key_value_heads": 8,
  "intermediate_size": 27648, "rms_norm_eps": 1e-5, "hidden_act": "silu",
  "max_position_embeddings": 131072, "rope_theta": 1000000, "use_sliding_window": false,
  "bos_token_id": 151646, "eos_token_id": 151643})";

constexpr std::string_view kV3Source = "huggingface.co/deepseek-ai/DeepSeek-R1 config.json";
constexpr std::string_view kLlamaSource =
    "huggingface.co/deepseek-ai/DeepSeek-R1-Distill-Llama-8B and -70B config.json";
constexpr std::string_view kSmallQwenSource =
    "huggingface.co/deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B and -7B config.json";
constexpr std::string_view kLargeQwenSource =
    "huggingface.co/deepseek-ai/DeepSeek-R1-Distill-Qwen-14B and -32B config.json";

constexpr PublishedModel kModels[] = {
    {"deepseek_v3_r1", kV3Source, kDeepseekV3},
    {"deepseek_v3", kV3Source, kDeepseekV3},
    {"deepseek_r1", kV3Source, kDeepseekV3},
    {"deepseek_v2_lite", "huggingface.co/deepseek-ai/DeepSeek-V2-Lite config.json",
     kDeepseekV2Lite},
    {"r1_distill_llama_8b_70b", kLlamaSource, kDistillLlama8b},
    {"r1_distill_llama_8b", kLlamaSource, kDistillLlama8b},
    {"r1_distill_qwen_1.5b_7b", kSmallQwenSource, kDistillQwen1p5b},
    {"r1_distill_qwen_1.5b", kSmallQwenSource, kDistillQwen1p5b},
    {"r1_distill_qwen_14b_32b", kLargeQwenSource, kDistillQwen32b},
    {"r1_distill_qwen_32b", kLargeQwenSource, kDistillQwen32b},
};

}  // namespace

absl::Span<const PublishedModel> PublishedModels() { return kModels; }

absl::StatusOr<ModelConfig> PublishedModelConfig(std::string_view name) {
  std::vector<std::string> names;
  for (const PublishedModel& model : kModels) {
    if (model.name == name) {
      return ParseModelConfig(std::string(model.config_json), "", std::string(model.source));
    }
    names.emplace_back(model.name);
  }
  return absl::NotFoundError(absl::StrCat("no published model is called ", std::string(name),
                                          "; we know ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<ChatTemplate> PublishedChatTemplate(std::string_view name) {
  if (name == "v3") return ChatTemplate::V3();
  if (name == "r1_first_release") return ChatTemplate::R1(/*open_thinking=*/false);
  if (name == "r1_forced_think") return ChatTemplate::R1(/*open_thinking=*/true);
  return absl::NotFoundError(absl::StrCat("no published chat template is called ",
                                          std::string(name),
                                          "; we know v3, r1_first_release and r1_forced_think"));
}

}  // namespace orrery
