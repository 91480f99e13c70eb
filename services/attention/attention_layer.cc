#include "services/attention/attention_layer.h"

namespace orrery {
namespace {

// The two inner norms of MLA keep 1e-6 whatever rms_norm_eps says, as in the published code.
constexpr float kInnerNormEps = 1e-6f;

RopePairing Pairing(const ModelConfig& config) {
  return config.rope.interleaved ? RopePairing::kInterleaved : RopePairing::kHalfSplit;
}

}  // namespace

absl::StatusOr<AttentionLayer> AttentionLayer::Create(const Model& model, int max_rows,
                                                      Device* device) {
  const ModelConfig& config = model.config;
  AttentionLayer layer;
  layer.config_ = &config;
  layer.rope_ = model.rope;
  const bool mla = config.attention == ModelConfig::AttentionKind::kMla;
  const int q_head = mla ? config.qk_nope_head_dim + config.qk_rope_head_dim : config.head_dim;
  const int context_head = mla ? config.kv_lora_rank : config.head_dim;
  const auto allocate = [&](int num_cols) {
    return device->Allocate(static_cast<size_t>(max_rows) * num_cols * sizeof(float),
                            MemoryKind::kDevice);
  };
  ASSIGN_OR_RETURN(layer.normed_, allocate(config.hidden_size));
  ASSIGN_OR_RETURN(layer.q_, allocate(config.num_heads * q_head));
  ASSIGN_OR_RETURN(layer.kv_, allocate(config.kv_row_width()));
  ASSIGN_OR_RETURN(layer.context_, allocate(config.num_heads * context_head));
  ASSIGN_OR_RETURN(layer.out_, allocate(config.hidden_size));
  if (mla) {
    if (config.q_lora_rank > 0) {
      ASSIGN_OR_RETURN(layer.q_lora_, allocate(config.q_lora_rank));
    }
    ASSIGN_OR_RETURN(layer.queries_, allocate(config.num_heads * config.kv_row_width()));
    ASSIGN_OR_RETURN(layer.values_, allocate(config.num_heads * config.v_head_dim));
  }
  return layer;
}

void AttentionLayer::Run(const LayerWeights& layer, const RowPlaces& places, const KvCache& cache,
                         Kernels& kernels, Matrix hidden) {
  const int num_rows = static_cast<int>(hidden.num_rows);
  const Matrix normed = View(normed_, num_rows, config_->hidden_size);
  kernels.RmsNorm(hidden, layer.attention_norm.as<float>(),
                  static_cast<float>(config_->rms_norm_eps), normed);
  if (layer.mla.has_value()) {
    RunMla(layer, places, cache, kernels, normed);
  } else {
    RunGqa(layer, places, cache, kernels, normed);
  }
  kernels.Add(out(num_rows), hidden);
}

void AttentionLayer::RunMla(const LayerWeights& layer, const RowPlaces& places,
                            const KvCache& cache, Kernels& kernels, ConstMatrix normed) {
  const MlaWeights& weights = *layer.mla;
  const int num_rows = static_cast<int>(normed.num_rows);
  const int num_heads = config_->num_heads;
  const int nope = config_->qk_nope_head_dim;
  const int rope = config_->qk_rope_head_dim;
  const int latent = config_->kv_lora_rank;
  const int value = config_->v_head_dim;
  const int key = latent + rope;

  // Queries, head-major [nope | rope].
  const Matrix q = View(q_, num_rows, num_heads * (nope + rope));
  if (weights.q_a != nullptr) {
    const Matrix q_lora = View(q_lora_, num_rows, config_->q_lora_rank);
    kernels.Matmul(normed, *weights.q_a, nullptr, q_lora);
    kernels.RmsNorm(q_lora, weights.q_a_norm.as<float>(), kInnerNormEps, q_lora);
    kernels.Matmul(q_lora, *weights.q, nullptr, q);
  } else {
    kernels.Matmul(normed, *weights.q, nullptr, q);
  }

  // What is cached: the normed latent and one rotated key for all heads.
  const Matrix kv = View(kv_, num_rows, key);
  kernels.Matmul(normed, *weights.kv_a, nullptr, kv);
  kernels.RmsNorm(kv.Columns(0, latent), weights.kv_a_norm.as<float>(), kInnerNormEps,
                  kv.Columns(0, latent));

  // Absorbed queries, head-major [latent | rope]: q_nope W_UK meets the latent, q_rope the rotated
  // key.
  const Matrix queries = View(queries_, num_rows, num_heads * key);
  kernels.MatmulHeads(q, nope + rope, weights.kv_b.key_up, queries, key);
  // One row for each head of each row: they follow each other without a gap.
  const int64_t num_vectors = int64_t{num_rows} * num_heads;
  kernels.Copy(ConstMatrix(q.data, num_vectors, nope + rope).Columns(nope, rope),
               Matrix(queries.data, num_vectors, key).Columns(latent, rope));

  const Matrix context = View(context_, num_rows, num_heads * latent);
  const KvCacheView& layer_cache = cache.layer(layer.index);
  kernels.RopeBatch(kv.Columns(latent, rope), 1, rope, places, Pairing(*config_), rope_);
  kernels.RopeBatch(queries.Columns(latent, num_heads * key - latent), num_heads, key, places,
                    Pairing(*config_), rope_);
  kernels.AppendKvBatch(kv, layer_cache, places);
  attends_.clear();
  attends_.push_back({.q = queries,
                      .num_heads = num_heads,
                      .key_dim = key,
                      .key_offset = 0,
                      .value_dim = latent,
                      .value_offset = 0,
                      .scale = static_cast<float>(config_->softmax_scale),
                      .cache = layer_cache,
                      .begin_position = layer.begin_position,
                      .out = context});
  kernels.AttendBatch(attends_, places);

  const Matrix values = View(values_, num_rows, num_heads * value);
  kernels.MatmulHeads(context, latent, weights.kv_b.value_up, values, value);
  kernels.Matmul(values, *weights.output, nullptr, View(out_, num_rows, config_->hidden_size));
}

void AttentionLayer::RunGqa(const LayerWeights& layer, const RowPlaces& places,
                            const KvCache& cache, Kernels& kernels, ConstMatrix normed) {
  const GqaWeights& weights = *layer.gqa;
  const int num_rows = static_cast<int>(normed.num_rows);
  const int head_dim = config_->head_dim;
  const int num_kv_heads = config_->num_kv_heads;
  const int group = config_->num_heads / num_kv_heads;  // query heads per kv head
  const int kv_width = num_kv_heads * head_dim;

  // The cache row is [keys of all kv heads | values of all kv heads].
  const Matrix q = View(q_, num_rows, config_->num_heads * head_dim);
  const Matrix kv = View(kv_, num_rows, 2 * kv_width);
  kernels.Matmul(normed, *weights.q, weights.q_bias.as<float>(), q);
  kernels.Matmul(normed, *weights.k, weights.k_bias.as<float>(), kv.Columns(0, kv_width));
  kernels.Matmul(normed, *weights.v, weights.v_bias.as<float>(), kv.Columns(kv_width, kv_width));

  const Matrix context = View(context_, num_rows, config_->num_heads * head_dim);
  const KvCacheView& layer_cache = cache.layer(layer.index);
  kernels.RopeBatch(q, config_->num_heads, head_dim, places, Pairing(*config_), rope_);
  kernels.RopeBatch(kv.Columns(0, kv_width), num_kv_heads, head_dim, places, Pairing(*config_),
                    rope_);
  kernels.AppendKvBatch(kv, layer_cache, places);
  attends_.clear();
  for (int kv_head = 0; kv_head < num_kv_heads; ++kv_head) {
    const int columns = group * head_dim;
    attends_.push_back({.q = q.Columns(kv_head * columns, columns),
                        .num_heads = group,
                        .key_dim = head_dim,
                        .key_offset = kv_head * head_dim,
                        .value_dim = head_dim,
                        .value_offset = kv_width + kv_head * head_dim,
                        .scale = static_cast<float>(config_->softmax_scale),
                        .cache = layer_cache,
                        .begin_position = layer.begin_position,
                        .out = context.Columns(kv_head * columns, columns)});
  }
  kernels.AttendBatch(attends_, places);
  kernels.Matmul(context, *weights.output, nullptr, View(out_, num_rows, config_->hidden_size));
}

}  // namespace orrery
