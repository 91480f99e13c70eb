#include "services/attention/model.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "model/moe_layers.h"
#include "model/weight_list.h"

namespace orrery {
namespace {

absl::StatusOr<MlaWeights> LoadMla(const std::string& prefix, const ModelConfig& config,
                                   WeightLoader& loader) {
  const int hidden = config.hidden_size;
  const int nope = config.qk_nope_head_dim;
  const int value = config.v_head_dim;
  const int latent = config.kv_lora_rank;
  const int q_outputs = config.num_heads * (nope + config.qk_rope_head_dim);
  MlaWeights weights;
  if (config.q_lora_rank > 0) {
    ASSIGN_OR_RETURN(weights.q_a, loader.Linear(prefix + ".q_a_proj", config.q_lora_rank, hidden));
    ASSIGN_OR_RETURN(weights.q_a_norm,
                     loader.Vector(prefix + ".q_a_layernorm.weight", config.q_lora_rank));
    ASSIGN_OR_RETURN(weights.q, loader.Linear(prefix + ".q_b_proj", q_outputs, config.q_lora_rank));
  } else {
    ASSIGN_OR_RETURN(weights.q, loader.Linear(prefix + ".q_proj", q_outputs, hidden));
  }
  ASSIGN_OR_RETURN(weights.kv_a, loader.Linear(prefix + ".kv_a_proj_with_mqa",
                                               latent + config.qk_rope_head_dim, hidden));
  ASSIGN_OR_RETURN(weights.kv_a_norm, loader.Vector(prefix + ".kv_a_layernorm.weight", latent));

  ASSIGN_OR_RETURN(weights.kv_b,
                   loader.KvHeads(prefix + ".kv_b_proj", {.num_heads = config.num_heads,
                                                          .key_dim = nope,
                                                          .value_dim = value,
                                                          .kv_lora_rank = latent}));
  ASSIGN_OR_RETURN(weights.output,
                   loader.Linear(prefix + ".o_proj", hidden, config.num_heads * value));
  return weights;
}

absl::StatusOr<GqaWeights> LoadGqa(const std::string& prefix, const ModelConfig& config,
                                   WeightLoader& loader) {
  const int hidden = config.hidden_size;
  const int q_outputs = config.num_heads * config.head_dim;
  const int kv_outputs = config.num_kv_heads * config.head_dim;
  GqaWeights weights;
  ASSIGN_OR_RETURN(weights.q, loader.Linear(prefix + ".q_proj", q_outputs, hidden));
  ASSIGN_OR_RETURN(weights.k, loader.Linear(prefix + ".k_proj", kv_outputs, hidden));
  ASSIGN_OR_RETURN(weights.v, loader.Linear(prefix + ".v_proj", kv_outputs, hidden));
  if (config.qkv_bias) {
    ASSIGN_OR_RETURN(weights.q_bias, loader.Vector(prefix + ".q_proj.bias", q_outputs));
    ASSIGN_OR_RETURN(weights.k_bias, loader.Vector(prefix + ".k_proj.bias", kv_outputs));
    ASSIGN_OR_RETURN(weights.v_bias, loader.Vector(prefix + ".v_proj.bias", kv_outputs));
  }
  ASSIGN_OR_RETURN(weights.output, loader.Linear(prefix + ".o_proj", hidden, q_outputs));
  return weights;
}

absl::StatusOr<MoeWeights> LoadMoe(const std::string& prefix, const ModelConfig& config,
                                   WeightLoader& loader) {
  MoeWeights weights;
  ASSIGN_OR_RETURN(weights.gate,
                   loader.LinearF32(prefix + ".gate", config.num_experts, config.hidden_size));
  if (config.topk_method == ModelConfig::TopkMethod::kNoauxTc) {
    ASSIGN_OR_RETURN(weights.bias,
                     loader.Vector(prefix + ".gate.e_score_correction_bias", config.num_experts));
  }
  if (config.num_shared_experts > 0) {
    ASSIGN_OR_RETURN(weights.shared,
                     loader.FeedForward(prefix + ".shared_experts", config.hidden_size,
                                        config.num_shared_experts * config.moe_intermediate_size));
  }
  return weights;
}

absl::StatusOr<LayerWeights> LoadLayer(int layer, const ModelConfig& config, WeightLoader& loader) {
  const std::string prefix = absl::StrCat("model.layers.", layer);
  LayerWeights weights;
  weights.index = layer;
  ASSIGN_OR_RETURN(weights.attention_norm,
                   loader.Vector(prefix + ".input_layernorm.weight", config.hidden_size));
  ASSIGN_OR_RETURN(weights.feed_forward_norm,
                   loader.Vector(prefix + ".post_attention_layernorm.weight", config.hidden_size));
  if (config.attention == ModelConfig::AttentionKind::kMla) {
    ASSIGN_OR_RETURN(weights.mla, LoadMla(prefix + ".self_attn", config, loader));
  } else {
    ASSIGN_OR_RETURN(weights.gqa, LoadGqa(prefix + ".self_attn", config, loader));
  }
  if (IsMoeLayer(config, layer)) {
    ASSIGN_OR_RETURN(weights.moe, LoadMoe(prefix + ".mlp", config, loader));
  } else {
    ASSIGN_OR_RETURN(weights.dense, loader.FeedForward(prefix + ".mlp", config.hidden_size,
                                                       config.intermediate_size));
  }
  return weights;
}

// The copies of embedding and head that are stored with the module are not read.
absl::StatusOr<MtpWeights> LoadMtp(const ModelConfig& config, WeightLoader& loader) {
  const int hidden = config.hidden_size;
  const std::string prefix = absl::StrCat("model.layers.", config.num_layers);
  MtpWeights weights;
  ASSIGN_OR_RETURN(weights.embedding_norm, loader.Vector(prefix + ".enorm.weight", hidden));
  ASSIGN_OR_RETURN(weights.hidden_norm, loader.Vector(prefix + ".hnorm.weight", hidden));
  ASSIGN_OR_RETURN(weights.join, loader.Linear(prefix + ".eh_proj", hidden, 2 * hidden));
  ASSIGN_OR_RETURN(weights.layer, LoadLayer(config.num_layers, config, loader));
  weights.layer.begin_position = 1;
  ASSIGN_OR_RETURN(weights.output_norm, loader.Vector(prefix + ".shared_head.norm.weight", hidden));
  return weights;
}

absl::Status CheckMtpModules(const ModelConfig& config) {
  if (config.num_mtp_layers == 0) {
    return absl::FailedPreconditionError(
        "drafting needs an MTP module, and the checkpoint has none (num_nextn_predict_layers is "
        "0)");
  }
  if (config.num_mtp_layers > 1) {
    LogInfo("the checkpoint has ", config.num_mtp_layers,
            " MTP modules; the first drafts, the others are not loaded");
  }
  return absl::OkStatus();
}

absl::Status MakeRope(int max_positions, Device* device, Model& model) {
  const std::vector<double> frequencies = InverseFrequencies(model.config.rope);
  const size_t num_values = frequencies.size() * max_positions;
  std::vector<float> cos(num_values), sin(num_values);
  MakeRopeTable(frequencies, max_positions, cos.data(), sin.data());
  const size_t num_bytes = num_values * sizeof(float);
  ASSIGN_OR_RETURN(model.rope_cos, device->Allocate(num_bytes, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(model.rope_sin, device->Allocate(num_bytes, MemoryKind::kDevice));
  const std::unique_ptr<Stream> stream = device->MakeStream();
  stream->CopyToDevice(model.rope_cos.data(), cos.data(), num_bytes);
  stream->CopyToDevice(model.rope_sin.data(), sin.data(), num_bytes);
  RETURN_IF_ERROR(stream->Synchronize());
  model.rope = {.cos = model.rope_cos.as<float>(),
                .sin = model.rope_sin.as<float>(),
                .num_positions = max_positions,
                .dim = model.config.rope.dim};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Model> LoadModel(const WeightFiles& files, const ModelConfig& config,
                                const ModelOptions& options, Kernels* kernels, Device* device,
                                std::atomic<int64_t>* loaded_bytes) {
  const std::unique_ptr<WeightLoader> loader =
      files.MakeLoader(&config, kernels, device, options.numerics, loaded_bytes);
  return LoadModel(*loader, config, options, device);
}

absl::StatusOr<Model> LoadModel(WeightLoader& loader, const ModelConfig& config,
                                const ModelOptions& options, Device* device) {
  if (options.with_mtp) RETURN_IF_ERROR(CheckMtpModules(config));
  loader.Expect(RankRecords(config, options.with_mtp));
  Model model;
  model.config = config;
  model.numerics = options.numerics;
  RETURN_IF_ERROR(MakeRope(options.max_positions, device, model));
  ASSIGN_OR_RETURN(model.embedding,
                   loader.Rows("model.embed_tokens", config.vocab_size, config.hidden_size));
  for (int layer = 0; layer < config.num_layers; ++layer) {
    ASSIGN_OR_RETURN(LayerWeights weights, LoadLayer(layer, config, loader));
    model.layers.push_back(std::move(weights));
  }
  if (options.with_mtp) {
    ASSIGN_OR_RETURN(model.mtp, LoadMtp(config, loader));
  }
  ASSIGN_OR_RETURN(model.final_norm, loader.Vector("model.norm.weight", config.hidden_size));
  ASSIGN_OR_RETURN(model.head,
                   loader.Linear(config.tie_word_embeddings ? "model.embed_tokens" : "lm_head",
                                 config.vocab_size, config.hidden_size));
  return model;
}

}  // namespace orrery
