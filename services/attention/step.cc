#include "services/attention/step.h"

#include "base/check.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<Step>> Step::Create(const StepParts& parts,
                                                   const StepOptions& options) {
  std::unique_ptr<Step> step(new Step(parts, options));
  const Model& model = *parts.model;
  const ModelConfig& config = model.config;
  ASSIGN_OR_RETURN(step->attention_, AttentionLayer::Create(model, options.max_rows, parts.device));
  ASSIGN_OR_RETURN(step->moe_,
                   MoeLayer::Create(config, model.numerics, options.max_rows, parts.device,
                                    parts.exchange, parts.directory, parts.hedge));
  const auto allocate = [&](size_t num_rows, size_t num_cols, MemoryKind kind) {
    return parts.device->Allocate(num_rows * num_cols * sizeof(float), kind);
  };
  const size_t rows = options.max_rows, logit_rows = options.max_logit_rows;
  const size_t hidden = config.hidden_size, vocab = config.vocab_size;
  ASSIGN_OR_RETURN(step->hidden_, allocate(rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->normed_, allocate(rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->addend_, allocate(rows, hidden, MemoryKind::kDevice));
  if (model.mtp.has_value()) {
    ASSIGN_OR_RETURN(step->draft_hidden_, allocate(rows, hidden, MemoryKind::kDevice));
    ASSIGN_OR_RETURN(step->draft_inputs_, allocate(rows, 2 * hidden, MemoryKind::kDevice));
  }
  ASSIGN_OR_RETURN(step->head_rows_, allocate(logit_rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->logits_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->logprobs_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(step->host_logprobs_, allocate(logit_rows, vocab, MemoryKind::kPinnedHost));
  ASSIGN_OR_RETURN(step->first_logits_, allocate(logit_rows, 1, MemoryKind::kPinnedHost));
  return step;
}

absl::Status Step::Run(const Batch& batch, const KvCache& cache, StepProbe* probe) {
  const Model& model = *parts_.model;
  const Matrix hidden = Rows(hidden_, batch);

  parts_.kernels->Embed(model.embedding.dtype, model.embedding.data.data(), batch.ids, hidden);
  for (const LayerWeights& layer : model.layers) {
    RETURN_IF_ERROR(RunLayer(layer, batch, cache, probe, hidden));
  }
  return Head(batch, model.final_norm, probe, hidden_);
}

absl::Status Step::Draft(const MtpBatch& batch, const KvCache& cache, StepProbe* probe) {
  const Model& model = *parts_.model;
  ORRERY_CHECK(model.mtp.has_value()) << "the model was loaded without its MTP module";
  ORRERY_CHECK(batch.hidden_rows.size() == batch.rows.ids.size())
      << batch.hidden_rows.size() << " hidden rows for " << batch.rows.ids.size() << " ids";
  const MtpWeights& mtp = *model.mtp;
  Kernels& kernels = *parts_.kernels;
  const int width = model.config.hidden_size;
  const Matrix hidden = Rows(draft_hidden_, batch.rows);
  const Matrix inputs(draft_inputs_.as<float>(), batch.rows.num_rows(), 2 * width);
  const bool chained = batch.source == MtpBatch::Source::kDraft;

  const Matrix next_tokens = inputs.Columns(0, width);
  kernels.Embed(model.embedding.dtype, model.embedding.data.data(), batch.rows.ids, next_tokens);
  RmsNorm(mtp.embedding_norm, next_tokens, next_tokens);
  // The hidden state as the head saw it: behind the norm of the pass that it comes from.
  const Matrix states = inputs.Columns(width, width);
  Gather(chained ? draft_hidden_ : hidden_, batch.hidden_rows, states);
  RmsNorm(chained ? mtp.output_norm : model.final_norm, states, states);
  RmsNorm(mtp.hidden_norm, states, states);
  kernels.Matmul(inputs, *mtp.join, nullptr, hidden);
  RETURN_IF_ERROR(RunLayer(mtp.layer, batch.rows, cache, probe, hidden));
  return Head(batch.rows, mtp.output_norm, probe, draft_hidden_);
}

absl::Status Step::RunLayer(const LayerWeights& layer, const Batch& batch, const KvCache& cache,
                            StepProbe* probe, Matrix hidden) {
  attention_.Run(layer, batch, cache, *parts_.kernels, hidden);
  if (probe) probe->OnAttention(layer.index, attention_.out(batch.num_rows()));
  RETURN_IF_ERROR(FeedForward(layer, batch, probe, hidden));
  if (probe) probe->OnHidden(layer.index, hidden);
  return absl::OkStatus();
}

absl::Status Step::FeedForward(const LayerWeights& layer, const Batch& batch, StepProbe* probe,
                               Matrix hidden) {
  Kernels& kernels = *parts_.kernels;
  const Matrix normed = Rows(normed_, batch);
  const Matrix addend = Rows(addend_, batch);
  RmsNorm(layer.feed_forward_norm, hidden, normed);
  if (layer.moe.has_value()) {
    RETURN_IF_ERROR(
        moe_.Run(*layer.moe, layer.index, batch, normed, kernels, *parts_.stream, probe, addend));
  } else {
    kernels.FeedForward(normed, *layer.dense->gate, *layer.dense->up, *layer.dense->down, addend);
  }
  if (probe) probe->OnFeedForward(layer.index, addend);
  kernels.Add(addend, hidden);
  return absl::OkStatus();
}

absl::Status Step::Head(const Batch& batch, const Buffer& output_norm, StepProbe* probe,
                        const Buffer& hidden) {
  const Model& model = *parts_.model;
  const int num_rows = static_cast<int>(batch.logit_rows.size());
  ORRERY_CHECK(num_rows <= options_.max_logit_rows)
      << num_rows << " of " << options_.max_logit_rows;
  Kernels& kernels = *parts_.kernels;
  const Matrix rows(head_rows_.as<float>(), num_rows, model.config.hidden_size);
  const Matrix logits(logits_.as<float>(), num_rows, model.config.vocab_size);
  const Matrix logprobs(logprobs_.as<float>(), num_rows, model.config.vocab_size);

  Gather(hidden, batch.logit_rows, rows);
  RmsNorm(output_norm, rows, rows);
  kernels.Matmul(rows, *model.head, nullptr, logits);
  if (probe) probe->OnLogits(logits);
  kernels.LogSoftmax(logits, logprobs);
  parts_.stream->CopyToHost(
      host_logprobs_.data(), logprobs.data,
      static_cast<size_t>(num_rows) * model.config.vocab_size * sizeof(float));
  for (int row = 0; row < num_rows; ++row) {
    parts_.stream->CopyToHost(first_logits_.as<float>() + row, logits.row(row), sizeof(float));
  }
  return parts_.stream->Synchronize();
}

Matrix Step::Rows(const Buffer& buffer, const Batch& batch) const {
  ORRERY_CHECK(batch.num_rows() <= options_.max_rows)
      << batch.num_rows() << " rows of " << options_.max_rows;
  return Matrix(buffer.as<float>(), batch.num_rows(), parts_.model->config.hidden_size);
}

void Step::Gather(const Buffer& rows, absl::Span<const int32_t> numbers, Matrix out) const {
  // The rows are a table, their numbers ids.
  parts_.kernels->Embed(DType::kF32, rows.data(), numbers, out);
}

void Step::RmsNorm(const Buffer& weight, ConstMatrix rows, Matrix out) const {
  parts_.kernels->RmsNorm(rows, weight.as<float>(),
                          static_cast<float>(parts_.model->config.rms_norm_eps), out);
}

absl::Span<const float> Step::logprobs(int index) const {
  const size_t vocab = parts_.model->config.vocab_size;
  return {host_logprobs_.as<float>() + index * vocab, vocab};
}

float Step::log_normalizer(int index) const {
  return first_logits_.as<float>()[index] - logprobs(index)[0];
}

}  // namespace orrery
