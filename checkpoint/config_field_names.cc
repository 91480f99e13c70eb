// The fields of config.json that we understand, and those that no forward pass depends on.
#include <initializer_list>

#include "absl/types/span.h"
#include "checkpoint/config_fields.h"

namespace orrery {
namespace {

constexpr std::string_view kCommonFields[] = {
    "architectures",       "model_type",          "vocab_size",
    "hidden_size",         "num_hidden_layers",   "max_position_embeddings",
    "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "rms_norm_eps",        "tie_word_embeddings", "hidden_act",
    "attention_bias",      "rope_theta",          "rope_scaling",
    "bos_token_id",        "eos_token_id",        "quantization_config"};

// Training, bookkeeping of transformers, and defaults for sampling, which are not the model's.
constexpr std::string_view kIgnoredFields[] = {
    "_name_or_path", "_attn_implementation", "attn_implementation", "attention_dropout",
    "attention_probs_dropout_prob", "hidden_dropout_prob", "aux_loss_alpha", "auto_map",
    "classifier_dropout", "decoder_start_token_id", "do_sample", "dtype", "ep_size", "id2label",
    "initializer_range", "label2id", "length_penalty", "max_length", "max_new_tokens", "min_length",
    "name_or_path", "num_beams", "num_return_sequences", "output_attentions",
    "output_hidden_states", "pad_token_id", "pretraining_tp", "problem_type", "repetition_penalty",
    "return_dict", "router_aux_loss_coef", "seq_aux", "task_specific_params", "temperature",
    "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript", "transformers_version",
    "typical_p", "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
    // Repeats of transformers 4.46 and later: the head size of the rotary part, and a default of
    // its own.
    "qk_head_dim", "num_local_experts"};

constexpr std::string_view kDeepseekFields[] = {
    "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
    "rope_interleave", "n_routed_experts", "n_shared_experts", "num_experts_per_tok",
    "moe_intermediate_size", "first_k_dense_replace", "moe_layer_freq", "n_group", "topk_group",
    "scoring_func", "topk_method", "norm_topk_prob", "routed_scaling_factor",
    "num_nextn_predict_layers",
    // Refused with words of their own.
    "index_topk", "index_n_heads", "index_head_dim"};

constexpr std::string_view kDenseFields[] = {"head_dim", "mlp_bias", "layer_types",
                                             "use_sliding_window"};

// Without effect while use_sliding_window is false.
constexpr std::string_view kQwen2Fields[] = {"sliding_window", "max_window_layers", "use_mrope"};

using Names = absl::Span<const std::string_view>;

std::vector<std::string_view> Join(std::initializer_list<Names> lists) {
  std::vector<std::string_view> joined;
  for (const Names names : lists) {
    for (const std::string_view name : names) joined.push_back(name);
  }
  return joined;
}

}  // namespace

std::vector<std::string_view> DeepseekFieldNames() {
  return Join({kCommonFields, kIgnoredFields, kDeepseekFields});
}

std::vector<std::string_view> DenseFieldNames(bool is_qwen2) {
  return Join(
      {kCommonFields, kIgnoredFields, kDenseFields, is_qwen2 ? Names(kQwen2Fields) : Names()});
}

}  // namespace orrery
