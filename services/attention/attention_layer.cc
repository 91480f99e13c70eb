#include "services/attention/attention_layer.h"

namespace orrery {
namespace {

// The two inner norms of MLA keep 1e-6 whatever rms_norm_eps says, as in the published code.
constexpr float kInnerNormEps = 1e-6f;

RopePairing Pairing(const ModelConfig& config) {
  return config.rope.interleaved ? RopePairing::kInterleaved : RopePairing::kHalfSplit;
}

// Writes a span's keys and values into the cache, but for those that stand there already.
void AppendSpan(ConstMatrix kv, const BatchSpan& span, const KvCacheView& cache, Kernels& kernels) {
  kernels.AppendKv(kv.Rows(span.num_cached_rows, span.num_rows - span.num_cached_rows), cache,
                   span.block_ids, span.first_position + span.num_cached_rows);
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

void AttentionLayer::Run(const LayerWeights& layer, const Batch& batch, const KvCache& cache,
                         Kernels& kernels, Matrix hidden) {
  const Matrix normed = View(normed_, batch.num_rows(), config_->hidden_size);
  kernels.RmsNorm(hidden, layer.attention_norm.as<float>(),
                  static_cast<float>(config_->rms_norm_eps), normed);
  if (layer.mla.has_value()) {
    RunMla(layer, batch, cache, kernels, normed);
  } else {
    RunGqa(layer, batch, cache, kernels, normed);
  }
  kernels.Add(out(batch.num_rows()), hidden);
}

void AttentionLayer::RunMla(const LayerWeights& layer, const Batch& batch, const KvCache& cache,
                            Kernels& kernels, ConstMatrix normed) {
  const MlaWeights& weights = *layer.mla;
  const int num_rows = batch.num_rows();
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
  for (int head = 0; head < num_heads; ++head) {
    kernels.Copy(q.Columns(head * (nope + rope) + nope, rope),
                 queries.Columns(head * key + latent, rope));
  }

  const Matrix context = View(context_, num_rows, num_heads * latent);
  const KvCacheView& layer_cache = cache.layer(layer.index);
  attends_.clear();
  for (const BatchSpan& span : batch.spans) {
    const Matrix span_queries = queries.Rows(span.row_begin, span.num_rows);
    const Matrix span_kv = kv.Rows(span.row_begin, span.num_rows);
    kernels.Rope(span_kv.Columns(latent, rope), 1, rope, span.first_position, Pairing(*config_),
                 rope_);
    kernels.Rope(span_queries.Columns(latent, num_heads * key - latent), num_heads, key,
                 span.first_position, Pairing(*config_), rope_);
    AppendSpan(span_kv, span, layer_cache, kernels);
    attends_.push_back({.q = span_queries,
                        .num_heads = num_heads,
                        .key_dim = key,
                        .key_offset = 0,
                        .value_dim = latent,
                        .value_offset = 0,
                        .scale = static_cast<float>(config_->softmax_scale),
                        .cache = layer_cache,
                        .block_ids = span.block_ids,
                        .begin_position = layer.begin_position,
                        .first_position = span.first_position,
                        .out = context.Rows(span.row_begin, span.num_rows)});
  }
  kernels.Attend(attends_);

  const Matrix values = View(values_, num_rows, num_heads * value);
  kernels.MatmulHeads(context, latent, weights.kv_b.value_up, values, value);
  kernels.Matmul(values, *weights.output, nullptr, View(out_, num_rows, config_->hidden_size));
}

void AttentionLayer::RunGqa(const LayerWeights& layer, const Batch& batch, const KvCache& cache,
                            Kernels& kernels, ConstMatrix normed) {
  const GqaWeights& weights = *layer.gqa;
  const int num_rows = batch.num_rows();
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
  attends_.clear();
  for (const BatchSpan& span : batch.spans) {
    const Matrix span_q = q.Rows(span.row_begin, span.num_rows);
    const Matrix span_kv = kv.Rows(span.row_begin, span.num_rows);
    const Matrix span_context = context.Rows(span.row_begin, span.num_rows);
    kernels.Rope(span_q, config_->num_heads, head_dim, span.first_position, Pairing(*config_),
                 rope_);
    kernels.Rope(span_kv.Columns(0, kv_width), num_kv_heads, head_dim, span.first_position,
                 Pairing(*config_), rope_);
    AppendSpan(span_kv, span, layer_cache, kernels);
    for (int kv_head = 0; kv_head < num_kv_heads; ++kv_head) {
      const int columns = group * head_dim;
      attends_.push_back({.q = span_q.Columns(kv_head * columns, columns),
                          .num_heads = group,
                          .key_dim = head_dim,
                          .key_offset = kv_head * head_dim,
                          .value_dim = head_dim,
                          .value_offset = kv_width + kv_head * head_dim,
                          .scale = static_cast<float>(config_->softmax_scale),
                          .cache = layer_cache,
                          .block_ids = span.block_ids,
                          .begin_position = layer.begin_position,
                          .first_position = span.first_position,
                          .out = span_context.Columns(kv_head * columns, columns)});
    }
  }
  kernels.Attend(attends_);
  kernels.Matmul(context, *weights.output, nullptr, View(out_, num_rows, config_->hidden_size));
}

}  // namespace orrery
