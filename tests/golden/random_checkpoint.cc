#include "tests/golden/random_checkpoint.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/dtypes.h"
#include "base/rng.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

// Collects tensors, then writes them as one safetensors file.
class TensorWriter {
 public:
  explicit TensorWriter(uint64_t seed) : seed_(seed) {}

  // Values of variance 1 / columns, so that activations keep their size; norms are near 1.
  void Matrix(const std::string& name, int num_rows, int num_cols) {
    Begin(name, "BF16", {num_rows, num_cols}, 2);
    const double scale = std::sqrt(12.0 / num_cols);
    for (int64_t i = 0; i < int64_t{num_rows} * num_cols; ++i) {
      PutBf16(static_cast<float>((Draw() - 0.5) * scale));
    }
  }
  void Norm(const std::string& name, int size) {
    Begin(name, "BF16", {size}, 2);
    for (int i = 0; i < size; ++i) PutBf16(static_cast<float>(0.5 + Draw()));
  }
  void Bias(const std::string& name, int size) {
    Begin(name, "F32", {size}, 4);
    for (int i = 0; i < size; ++i) {
      const float value = static_cast<float>(Draw() * 0.2);
      data_.append(reinterpret_cast<const char*>(&value), 4);
    }
  }
  void Write(const std::string& path) const {
    std::string header = header_.dump();
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const uint64_t length = header.size();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8);
    file << header << data_;
    ORRERY_CHECK(file.good()) << path;
  }

 private:
  void Begin(const std::string& name, const std::string& dtype, const std::vector<int>& shape,
             int bytes) {
    int64_t size = bytes;
    for (const int extent : shape) size *= extent;
    header_[name] = {
        {"dtype", dtype}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + size}}};
    ++tensor_;
    draw_ = 0;
  }
  double Draw() {
    return UniformDraw({.seed = seed_, .choice = 0, .position = tensor_, .draw = draw_++});
  }
  void PutBf16(float value) {
    const uint16_t bits = F32ToBf16(value);
    data_.append(reinterpret_cast<const char*>(&bits), 2);
  }

  const uint64_t seed_;
  uint32_t tensor_ = 0;
  uint32_t draw_ = 0;
  nlohmann::json header_ = nlohmann::json::object();
  std::string data_;
};

nlohmann::json Config(const RandomShape& s) {
  return {{"architectures", {"DeepseekV3ForCausalLM"}},
          {"model_type", "deepseek_v3"},
          {"vocab_size", s.vocab},
          {"hidden_size", s.hidden},
          {"num_hidden_layers", s.num_layers},
          {"first_k_dense_replace", s.num_dense_layers},
          {"moe_layer_freq", 1},
          {"intermediate_size", s.dense_width},
          {"moe_intermediate_size", s.moe_width},
          {"n_routed_experts", s.num_experts},
          {"n_shared_experts", s.num_shared},
          {"num_experts_per_tok", s.topk},
          {"n_group", s.num_groups},
          {"topk_group", s.num_kept_groups},
          {"scoring_func", s.scoring},
          {"topk_method", s.method},
          {"norm_topk_prob", s.normalize},
          {"routed_scaling_factor", 1.5},
          {"num_attention_heads", s.num_heads},
          {"num_key_value_heads", s.num_heads},
          {"q_lora_rank", s.q_lora > 0 ? nlohmann::json(s.q_lora) : nlohmann::json()},
          {"kv_lora_rank", s.kv_lora},
          {"qk_nope_head_dim", s.nope},
          {"qk_rope_head_dim", s.rope},
          {"v_head_dim", s.value},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"rope_scaling", nlohmann::json()},
          {"max_position_embeddings", 256},
          {"tie_word_embeddings", false},
          {"attention_bias", false},
          {"num_nextn_predict_layers", s.num_mtp_layers},
          {"hidden_act", "silu"},
          {"bos_token_id", 0},
          {"eos_token_id", 1}};
}

void FeedForward(const std::string& prefix, int hidden, int width, TensorWriter& writer) {
  writer.Matrix(prefix + ".gate_proj.weight", width, hidden);
  writer.Matrix(prefix + ".up_proj.weight", width, hidden);
  writer.Matrix(prefix + ".down_proj.weight", hidden, width);
}

void Attention(const std::string& prefix, const RandomShape& s, TensorWriter& writer) {
  const int q_outputs = s.num_heads * (s.nope + s.rope);
  if (s.q_lora > 0) {
    writer.Matrix(prefix + ".q_a_proj.weight", s.q_lora, s.hidden);
    writer.Norm(prefix + ".q_a_layernorm.weight", s.q_lora);
    writer.Matrix(prefix + ".q_b_proj.weight", q_outputs, s.q_lora);
  } else {
    writer.Matrix(prefix + ".q_proj.weight", q_outputs, s.hidden);
  }
  writer.Matrix(prefix + ".kv_a_proj_with_mqa.weight", s.kv_lora + s.rope, s.hidden);
  writer.Norm(prefix + ".kv_a_layernorm.weight", s.kv_lora);
  writer.Matrix(prefix + ".kv_b_proj.weight", s.num_heads * (s.nope + s.value), s.kv_lora);
  writer.Matrix(prefix + ".o_proj.weight", s.hidden, s.num_heads * s.value);
}

void Layer(int layer, const RandomShape& s, TensorWriter& writer) {
  const std::string prefix = absl::StrCat("model.layers.", layer);
  writer.Norm(prefix + ".input_layernorm.weight", s.hidden);
  writer.Norm(prefix + ".post_attention_layernorm.weight", s.hidden);
  Attention(prefix + ".self_attn", s, writer);
  if (layer < s.num_dense_layers) {
    FeedForward(prefix + ".mlp", s.hidden, s.dense_width, writer);
    return;
  }
  writer.Matrix(prefix + ".mlp.gate.weight", s.num_experts, s.hidden);
  if (s.method == "noaux_tc")
    writer.Bias(prefix + ".mlp.gate.e_score_correction_bias", s.num_experts);
  for (int expert = 0; expert < s.num_experts; ++expert) {
    FeedForward(absl::StrCat(prefix, ".mlp.experts.", expert), s.hidden, s.moe_width, writer);
  }
  if (s.num_shared > 0) {
    FeedForward(prefix + ".mlp.shared_experts", s.hidden, s.num_shared * s.moe_width, writer);
  }
}

// Without the copies of embedding and head that published files have: nobody reads them.
void MtpModule(int layer, const RandomShape& s, TensorWriter& writer) {
  const std::string prefix = absl::StrCat("model.layers.", layer);
  writer.Norm(prefix + ".enorm.weight", s.hidden);
  writer.Norm(prefix + ".hnorm.weight", s.hidden);
  writer.Matrix(prefix + ".eh_proj.weight", s.hidden, 2 * s.hidden);
  Layer(layer, s, writer);
  writer.Norm(prefix + ".shared_head.norm.weight", s.hidden);
}

}  // namespace

std::string WriteRandomCheckpoint(const RandomShape& s, uint64_t seed) {
  std::string dir = absl::StrCat(testing::TempDir(), "/random-XXXXXX");
  ORRERY_CHECK(mkdtemp(dir.data()) != nullptr) << dir;
  std::ofstream(dir + "/config.json") << Config(s).dump();
  TensorWriter writer(seed);
  writer.Matrix("model.embed_tokens.weight", s.vocab, s.hidden);
  for (int layer = 0; layer < s.num_layers; ++layer) Layer(layer, s, writer);
  writer.Norm("model.norm.weight", s.hidden);
  writer.Matrix("lm_head.weight", s.vocab, s.hidden);
  for (int module = 0; module < s.num_mtp_layers; ++module) {
    MtpModule(s.num_layers + module, s, writer);
  }
  writer.Write(dir + "/model.safetensors");
  return dir;
}

}  // namespace orrery
