#include "tools/bench/synthetic/synthetic_shape.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

constexpr int kScaleBlock = 128;
constexpr float kLargestFp8 = 448.0f;

SyntheticShape V3Mini() {
  return {.name = "v3-mini",
          .projections = DType::kBf16,
          .hidden = 2048,
          .vocab_size = 32000,
          .max_positions = 16384,
          .num_layers = 8,
          .num_dense_layers = 1,
          .dense_width = 10944,  // DeepSeek-V2-Lite's
          .expert_width = 704,
          .num_experts = 64,
          .num_experts_per_token = 6,
          .num_shared_experts = 2,
          .num_groups = 8,
          .num_kept_groups = 4,
          .num_heads = 16,
          .q_lora_rank = 768,
          .kv_lora_rank = 512,
          .nope_dim = 128,
          .rope_dim = 64,
          .value_dim = 128};
}

SyntheticShape R1Layer() {
  SyntheticShape shape = V3Mini();
  shape.name = "r1-layer";
  shape.projections = DType::kFp8E4m3;
  shape.hidden = 7168;
  shape.vocab_size = 4096;
  shape.max_positions = 163840;
  shape.yarn = true;
  shape.num_layers = 1;
  shape.num_dense_layers = 0;
  shape.dense_width = 18432;
  shape.expert_width = 2048;
  shape.num_experts = 256;
  shape.num_experts_per_token = 8;
  shape.num_shared_experts = 1;
  shape.num_heads = 128;
  shape.q_lora_rank = 1536;
  return shape;
}

// Collects the tensors of a model.
class TensorList {
 public:
  explicit TensorList(DType projections) : projections_(projections) {}

  // A matrix of the checkpoint's main format. Its variance is 1 / num_cols.
  void Projection(const std::string& name, int num_rows, int num_cols) {
    if (projections_ != DType::kFp8E4m3) return Matrix(name, num_rows, num_cols);
    const float scale = Bound(num_cols) / kLargestFp8;
    Add({name, DType::kFp8E4m3, {num_rows, num_cols}, -kLargestFp8, kLargestFp8});
    Add({name + "_scale_inv",
         DType::kF32,
         {CeilDiv(num_rows, kScaleBlock), CeilDiv(num_cols, kScaleBlock)},
         0.75f * scale,
         1.25f * scale});
  }
  // The same in bf16, whatever the main format.
  void Matrix(const std::string& name, int num_rows, int num_cols) {
    const float bound = Bound(num_cols);
    Add({name, DType::kBf16, {num_rows, num_cols}, -bound, bound});
  }
  void FeedForward(const std::string& prefix, int hidden, int width) {
    Projection(prefix + ".gate_proj.weight", width, hidden);
    Projection(prefix + ".up_proj.weight", width, hidden);
    Projection(prefix + ".down_proj.weight", hidden, width);
  }
  void Norm(const std::string& name, int size) { Add({name, DType::kBf16, {size}, 0.5f, 1.5f}); }
  void Add(SyntheticTensor tensor) { tensors_.push_back(std::move(tensor)); }

  std::vector<SyntheticTensor> Take() { return std::move(tensors_); }

 private:
  static int CeilDiv(int a, int b) { return (a + b - 1) / b; }
  // Noise between -bound and bound has variance bound^2 / 3.
  static float Bound(int num_cols) { return std::sqrt(3.0f / static_cast<float>(num_cols)); }

  const DType projections_;
  std::vector<SyntheticTensor> tensors_;
};

void AddAttention(const std::string& prefix, const SyntheticShape& s, TensorList& list) {
  const int q_outputs = s.num_heads * (s.nope_dim + s.rope_dim);
  list.Projection(prefix + ".q_a_proj.weight", s.q_lora_rank, s.hidden);
  list.Norm(prefix + ".q_a_layernorm.weight", s.q_lora_rank);
  list.Projection(prefix + ".q_b_proj.weight", q_outputs, s.q_lora_rank);
  list.Projection(prefix + ".kv_a_proj_with_mqa.weight", s.kv_lora_rank + s.rope_dim, s.hidden);
  list.Norm(prefix + ".kv_a_layernorm.weight", s.kv_lora_rank);
  list.Projection(prefix + ".kv_b_proj.weight", s.num_heads * (s.nope_dim + s.value_dim),
                  s.kv_lora_rank);
  list.Projection(prefix + ".o_proj.weight", s.hidden, s.num_heads * s.value_dim);
}

void AddLayer(int layer, const SyntheticShape& s, TensorList& list) {
  const std::string prefix = absl::StrCat("model.layers.", layer);
  list.Norm(prefix + ".input_layernorm.weight", s.hidden);
  list.Norm(prefix + ".post_attention_layernorm.weight", s.hidden);
  AddAttention(prefix + ".self_attn", s, list);
  if (layer < s.num_dense_layers) {
    list.FeedForward(prefix + ".mlp", s.hidden, s.dense_width);
    return;
  }
  list.Matrix(prefix + ".mlp.gate.weight", s.num_experts, s.hidden);
  list.Add({prefix + ".mlp.gate.e_score_correction_bias", DType::kF32, {s.num_experts}, 0, 0.1f});
  list.FeedForward(prefix + ".mlp.shared_experts", s.hidden, s.num_shared_experts * s.expert_width);
  for (int expert = 0; expert < s.num_experts; ++expert) {
    list.FeedForward(absl::StrCat(prefix, ".mlp.experts.", expert), s.hidden, s.expert_width);
  }
}

}  // namespace

absl::StatusOr<SyntheticShape> FindSyntheticShape(const std::string& name) {
  if (name == "v3-mini") return V3Mini();
  if (name == "r1-layer") return R1Layer();
  return absl::InvalidArgumentError(
      absl::StrCat("unknown preset \"", name, "\": want v3-mini or r1-layer"));
}

std::string SyntheticConfig(const SyntheticShape& s) {
  nlohmann::json config = {{"architectures", {"DeepseekV3ForCausalLM"}},
                           {"model_type", "deepseek_v3"},
                           {"vocab_size", s.vocab_size},
                           {"hidden_size", s.hidden},
                           {"num_hidden_layers", s.num_layers},
                           {"first_k_dense_replace", s.num_dense_layers},
                           {"moe_layer_freq", 1},
                           {"intermediate_size", s.dense_width},
                           {"moe_intermediate_size", s.expert_width},
                           {"n_routed_experts", s.num_experts},
                           {"n_shared_experts", s.num_shared_experts},
                           {"num_experts_per_tok", s.num_experts_per_token},
                           {"n_group", s.num_groups},
                           {"topk_group", s.num_kept_groups},
                           {"scoring_func", "sigmoid"},
                           {"topk_method", "noaux_tc"},
                           {"norm_topk_prob", true},
                           {"routed_scaling_factor", 2.5},
                           {"num_attention_heads", s.num_heads},
                           {"num_key_value_heads", s.num_heads},
                           {"q_lora_rank", s.q_lora_rank},
                           {"kv_lora_rank", s.kv_lora_rank},
                           {"qk_nope_head_dim", s.nope_dim},
                           {"qk_rope_head_dim", s.rope_dim},
                           {"v_head_dim", s.value_dim},
                           {"rms_norm_eps", 1e-6},
                           {"rope_theta", 10000.0},
                           {"max_position_embeddings", s.max_positions},
                           {"tie_word_embeddings", false},
                           {"attention_bias", false},
                           {"num_nextn_predict_layers", 0},
                           {"hidden_act", "silu"},
                           {"bos_token_id", 0},
                           {"eos_token_id", 1}};
  if (s.yarn) {
    config["rope_scaling"] = {
        {"type", "yarn"},       {"factor", 40},   {"original_max_position_embeddings", 4096},
        {"beta_fast", 32},      {"beta_slow", 1}, {"mscale", 1.0},
        {"mscale_all_dim", 1.0}};
  }
  if (s.projections == DType::kFp8E4m3) {
    config["quantization_config"] = {{"quant_method", "fp8"},
                                     {"fmt", "e4m3"},
                                     {"activation_scheme", "dynamic"},
                                     {"weight_block_size", {kScaleBlock, kScaleBlock}}};
  }
  return config.dump(2) + "\n";
}

int64_t SyntheticTensor::num_values() const {
  int64_t num = 1;
  for (const int extent : shape) num *= extent;
  return num;
}

std::vector<SyntheticTensor> SyntheticTensors(const SyntheticShape& s) {
  TensorList list(s.projections);
  list.Add({"model.embed_tokens.weight", DType::kBf16, {s.vocab_size, s.hidden}, -1.7f, 1.7f});
  for (int layer = 0; layer < s.num_layers; ++layer) AddLayer(layer, s, list);
  list.Norm("model.norm.weight", s.hidden);
  list.Matrix("lm_head.weight", s.vocab_size, s.hidden);
  return list.Take();
}

}  // namespace orrery
