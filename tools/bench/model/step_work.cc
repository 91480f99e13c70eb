#include "tools/bench/model/step_work.h"

#include <cmath>

namespace orrery {
namespace {

constexpr double kBf16Bytes = 2.0;
constexpr double kF32Bytes = 4.0;

// Scales included.
double BytesPerStoredWeight(const ModelConfig& config) {
  const double block = static_cast<double>(config.weight_block_outputs) *
                       static_cast<double>(config.weight_block_inputs);
  return block > 0.0 ? 1.0 + kF32Bytes / block : kBf16Bytes;
}

// kernels/kernels.h: blocks of 128 and 32 inputs with a bf16 scale each.
double BytesPerFfnWeight(const ModelConfig& config, WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt8:
      return 1.0 + kBf16Bytes / 128;
    case WeightFormat::kInt4:
      return 0.5 + kBf16Bytes / 32;
    case WeightFormat::kStored:
      break;
  }
  return BytesPerStoredWeight(config);
}

class StepWorks {
 public:
  StepWorks(const ModelConfig& config, WeightFormat ffn_weights, const StepShape& shape)
      : config_(config),
        shape_(shape),
        weight_bytes_(BytesPerStoredWeight(config)),
        ffn_bytes_(BytesPerFfnWeight(config, ffn_weights)) {}

  std::vector<Work> List() {
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      Attention();
      if (config_.is_moe_layer(layer)) {
        Moe();
      } else {
        FeedForward(config_.intermediate_size, /*copies=*/1.0, shape_.num_rows);
      }
    }
    Product(config_.vocab_size, config_.hidden_size, kBf16Bytes, shape_.num_logit_rows);
    return std::move(works_);
  }

 private:
  void Product(double num_outputs, double num_inputs, double bytes_per_weight, double num_rows) {
    works_.push_back({.bytes = num_outputs * num_inputs * bytes_per_weight,
                      .flops = 2.0 * num_outputs * num_inputs * num_rows});
  }

  // Absorbed MLA: services/attention/attention_layer.cc.
  void Attention() {
    const double heads = config_.num_heads, hidden = config_.hidden_size;
    const double nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim;
    const double latent = config_.kv_lora_rank, value = config_.v_head_dim;
    const double rows = shape_.num_rows;
    double query_inputs = hidden;
    if (config_.q_lora_rank > 0) {
      Product(config_.q_lora_rank, hidden, weight_bytes_, rows);
      query_inputs = config_.q_lora_rank;
    }
    Product(heads * (nope + rope), query_inputs, weight_bytes_, rows);
    Product(latent + rope, hidden, weight_bytes_, rows);
    Product(heads * latent, nope, kBf16Bytes, rows);  // queries into the latent space
    works_.push_back({.bytes = shape_.num_sequences * shape_.context * (latent + rope) * kBf16Bytes,
                      .flops = 2.0 * rows * heads * shape_.context * (2.0 * latent + rope)});
    Product(heads * value, latent, kBf16Bytes, rows);  // and out of it
    Product(hidden, heads * value, weight_bytes_, rows);
  }

  void Moe() {
    const double rows = shape_.num_rows;
    Product(config_.num_experts, config_.hidden_size, kF32Bytes, rows);  // the gate
    FeedForward(config_.moe_intermediate_size * config_.num_shared_experts, /*copies=*/1.0, rows);
    FeedForward(
        config_.moe_intermediate_size,
        ExpectedExperts(config_.num_experts, config_.num_experts_per_token, shape_.num_rows),
        rows * config_.num_experts_per_token);
  }

  // `copies` experts of this width, which num_rows rows visit in all.
  void FeedForward(double width, double copies, double num_rows) {
    const double num_weights = 3.0 * width * config_.hidden_size;
    works_.push_back(
        {.bytes = copies * num_weights * ffn_bytes_, .flops = 2.0 * num_rows * num_weights});
  }

  const ModelConfig& config_;
  const StepShape& shape_;
  const double weight_bytes_;
  const double ffn_bytes_;
  std::vector<Work> works_;
};

}  // namespace

std::vector<Work> WorkOfStep(const ModelConfig& config, WeightFormat ffn_weights,
                             const StepShape& shape) {
  return StepWorks(config, ffn_weights, shape).List();
}

double LeastSeconds(absl::Span<const Work> works, const Ceilings& ceilings) {
  double seconds = 0.0;
  for (const Work& work : works) seconds += LeastSeconds(work, ceilings);
  return seconds;
}

double ExpectedExperts(int num_experts, int topk, int num_rows) {
  const double missed = 1.0 - static_cast<double>(topk) / num_experts;
  return num_experts * (1.0 - std::pow(missed, num_rows));
}

}  // namespace orrery
