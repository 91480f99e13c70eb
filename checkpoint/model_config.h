// What a model is: the numbers of config.json, read from the fields and never from the model's
// name.
//
//   ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig("/models/r1"));
//
// Understands DeepSeek-V2/V3/R1 (MLA, MoE or dense), Qwen2 and Llama-3 (GQA, dense). A field that
// asks for something we do not implement is an INVALID_ARGUMENT that names it with its value; all
// such fields are listed at once. No field is ignored in silence but those that only concern
// training and bookkeeping: a field we do not know is refused too, unless its value says "off"
// (null, false, 0, empty).
#ifndef ORRERY_CHECKPOINT_MODEL_CONFIG_H_
#define ORRERY_CHECKPOINT_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace orrery {

struct RopeConfig {
  enum class Scaling { kNone, kYarn, kLlama3 };
  double theta = 10000.0;
  int dim = 0;               // rotated values per head
  bool interleaved = false;  // pairs (2i, 2i+1), else (i, i + dim/2)
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  int original_max_positions = 0;
  // YaRN
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale_all_dim = 0.0;
  // Llama-3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
};

// Angle per position of each of dim / 2 pairs, scaling applied. (YaRN: arXiv 2309.00071; Llama-3.1
// config.)
std::vector<double> InverseFrequencies(const RopeConfig& rope);

struct ModelConfig {
  enum class AttentionKind { kMla, kGqa };
  enum class ScoringFunc { kSigmoid, kSoftmax };
  enum class TopkMethod { kGreedy, kGroupLimitedGreedy, kNoauxTc };

  std::string model_type;  // for messages only
  int vocab_size = 0;
  int hidden_size = 0;
  int num_layers = 0;
  int max_positions = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  int bos_id = -1;               // generation_config.json's, else config.json's; -1: none
  std::vector<int32_t> eos_ids;  // config.json, then generation_config.json where it says more

  AttentionKind attention = AttentionKind::kMla;
  int num_heads = 0;
  double softmax_scale = 0.0;  // YaRN's temperature included
  RopeConfig rope;
  // MLA
  int q_lora_rank = 0;  // 0: a single q_proj
  int kv_lora_rank = 0;
  int qk_nope_head_dim = 0;
  int qk_rope_head_dim = 0;
  int v_head_dim = 0;
  // GQA
  int num_kv_heads = 0;
  int head_dim = 0;
  bool qkv_bias = false;

  int intermediate_size = 0;  // width of a dense feed-forward
  // MoE; num_experts is 0 in dense models
  int num_experts = 0;
  int num_experts_per_token = 0;
  int num_shared_experts = 0;
  int moe_intermediate_size = 0;
  int num_groups = 1;
  int num_kept_groups = 1;
  ScoringFunc scoring_func = ScoringFunc::kSigmoid;
  TopkMethod topk_method = TopkMethod::kNoauxTc;
  bool normalize_weights = false;
  double weight_scale = 1.0;       // settled: V2 normalises or scales, V3 does both
  std::vector<bool> layer_is_moe;  // [num_layers]

  int num_mtp_layers = 0;  // stored behind the main layers; the first can draft
  // fp8 checkpoints: [outputs, inputs] covered by one scale; 0 where nothing is fp8
  int weight_block_outputs = 0;
  int weight_block_inputs = 0;

  bool is_moe_layer(int layer) const { return layer_is_moe[layer]; }
  bool has_mtp() const { return num_mtp_layers > 0; }
  // Values that the cache holds per token and layer.
  int kv_row_width() const {
    return attention == AttentionKind::kMla ? kv_lora_rank + qk_rope_head_dim
                                            : 2 * num_kv_heads * head_dim;
  }
};

// Bytes that one token takes in the KV cache, over all layers, with values of value_bytes. with_mtp: the
// MTP module runs too; it is one more layer.
int64_t KvBytesPerToken(const ModelConfig& config, int value_bytes, bool with_mtp);

// Reads DIR/config.json (and DIR/generation_config.json if it is there).
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& model_dir);

// From the texts of the two files; generation_config may be empty. `origin` stands in messages.
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& config_json,
                                             const std::string& generation_config_json,
                                             const std::string& origin);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_MODEL_CONFIG_H_
