#include "services/attention/step.h"

#include "base/check.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<Step>> Step::Create(const StepParts& parts,
                                                   const StepOptions& options) {
  std::unique_ptr<Step> step(new Step(parts, options));
  const Model& model = *parts.model;
  const ModelConfig& config = model.config;
  ASSIGN_OR_RETURN(step->attention_,
                   AttentionLayer::Create(config, options.max_rows, parts.device));
  ASSIGN_OR_RETURN(step->moe_, MoeLayer::Create(config, model.numerics, options.max_rows,
                                                parts.device, parts.exchange, parts.directory));
  const auto allocate = [&](size_t num_rows, size_t num_cols, MemoryKind kind) {
    return parts.device->Allocate(num_rows * num_cols * sizeof(float), kind);
  };
  const size_t rows = options.max_rows, logit_rows = options.max_logit_rows;
  const size_t hidden = config.hidden_size, vocab = config.vocab_size;
  ASSIGN_OR_RETURN(step->hidden_, allocate(rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->normed_, allocate(rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->addend_, allocate(rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->head_rows_, allocate(logit_rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->logits_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->logprobs_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->host_logprobs_, allocate(logit_rows, vocab, MemoryKind::kPinnedHost));
  return step;
}

absl::Status Step::Run(const Batch& batch, const KvCache& cache, StepProbe* probe) {
  const Model& model = *parts_.model;
  ORRERY_CHECK(batch.num_rows() <= options_.max_rows)
      << batch.num_rows() << " rows of " << options_.max_rows;
  const Matrix hidden(hidden_.as<float>(), batch.num_rows(), model.config.hidden_size);

  parts_.kernels->Embed(model.embedding.dtype, model.embedding.data.data(), batch.ids, hidden);
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    attention_.Run(model, layer, batch, cache, *parts_.kernels, hidden);
    if (probe) probe->OnAttention(layer, attention_.out(batch.num_rows()));
    RETURN_IF_ERROR(FeedForward(layer, batch, probe, hidden));
    if (probe) probe->OnHidden(layer, hidden);
  }
  return Head(batch, probe, hidden);
}

absl::Status Step::FeedForward(int layer, const Batch& batch, StepProbe* probe, Matrix hidden) {
  const LayerWeights& weights = parts_.model->layers[layer];
  Kernels& kernels = *parts_.kernels;
  const Matrix normed(normed_.as<float>(), batch.num_rows(), hidden.num_cols);
  const Matrix addend(addend_.as<float>(), batch.num_rows(), hidden.num_cols);
  kernels.RmsNorm(hidden, weights.feed_forward_norm.as<float>(),
                  static_cast<float>(parts_.model->config.rms_norm_eps), normed);
  if (weights.moe.has_value()) {
    RETURN_IF_ERROR(
        moe_.Run(*weights.moe, layer, batch, normed, kernels, *parts_.stream, probe, addend));
  } else {
    kernels.FeedForward(normed, *weights.dense->gate, *weights.dense->up, *weights.dense->down,
                        addend);
  }
  if (probe) probe->OnFeedForward(layer, addend);
  kernels.Add(addend, hidden);
  return absl::OkStatus();
}

absl::Status Step::Head(const Batch& batch, StepProbe* probe, ConstMatrix hidden) {
  const Model& model = *parts_.model;
  const int num_rows = static_cast<int>(batch.logit_rows.size());
  ORRERY_CHECK(num_rows <= options_.max_logit_rows)
      << num_rows << " of " << options_.max_logit_rows;
  Kernels& kernels = *parts_.kernels;
  const Matrix rows(head_rows_.as<float>(), num_rows, model.config.hidden_size);
  const Matrix logits(logits_.as<float>(), num_rows, model.config.vocab_size);
  const Matrix logprobs(logprobs_.as<float>(), num_rows, model.config.vocab_size);

  // Gathers the wanted rows: the hidden state is a table whose ids are row numbers.
  kernels.Embed(DType::kF32, hidden.data, batch.logit_rows, rows);
  kernels.RmsNorm(rows, model.final_norm.as<float>(), static_cast<float>(model.config.rms_norm_eps),
                  rows);
  kernels.Matmul(rows, *model.head, nullptr, logits);
  if (probe) probe->OnLogits(logits);
  kernels.LogSoftmax(logits, logprobs);
  parts_.stream->CopyToHost(
      host_logprobs_.data(), logprobs.data,
      static_cast<size_t>(num_rows) * model.config.vocab_size * sizeof(float));
  return parts_.stream->Synchronize();
}

absl::Span<const float> Step::logprobs(int index) const {
  const size_t vocab = parts_.model->config.vocab_size;
  return {host_logprobs_.as<float>() + index * vocab, vocab};
}

}  // namespace orrery
