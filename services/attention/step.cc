#include "services/attention/step.h"

#include <algorithm>

#include "base/check.h"
#include "device/counting_device.h"

namespace orrery {
namespace {

// Parts of a layer that are captured apart.
enum LayerPart {
  kAttention,
  kFeedForward,  // of a MoE layer up to its rows' way out
  kSharedExpert,
  kCombine,
};

// The largest calls of a step, for the scratch memory of its kernels.
ScratchLimits LargestCalls(const Model& model, const StepOptions& options) {
  const ModelConfig& config = model.config;
  const int64_t rows = options.max_rows;
  const int hidden = config.hidden_size, num_heads = config.num_heads;
  ScratchLimits limits;
  const auto size = [](const ScratchLimits::Products& products) {
    return (products.num_rows + products.num_weights) * products.num_inputs;
  };
  const auto add = [&](ScratchLimits::Products& largest, const ScratchLimits::Products& one) {
    if (size(one) > size(largest)) largest = one;
  };
  if (config.attention == ModelConfig::AttentionKind::kMla) {
    const int64_t head_rows = rows * num_heads;
    add(limits.products, {head_rows, num_heads, config.qk_nope_head_dim});
    add(limits.products, {head_rows, num_heads, config.kv_lora_rank});
    add(limits.products, {rows, 1, config.q_lora_rank});
    add(limits.products, {rows, 1, num_heads * config.v_head_dim});
  } else {
    add(limits.products, {rows, 1, num_heads * config.head_dim});
  }
  add(limits.products,
      {2 * rows, 2, hidden});  // gate and up; the MTP module's join has as many values
  add(limits.products, {options.max_logit_rows, 1, hidden});
  add(limits.down_products, {rows, 1, config.intermediate_size});
  add(limits.down_products, {rows, 1, config.num_shared_experts * config.moe_intermediate_size});
  limits.num_sequences = std::min(options.max_rows, options.max_logit_rows);
  limits.attend_dims = config.attention == ModelConfig::AttentionKind::kMla
                           ? config.kv_row_width() + config.kv_lora_rank
                           : 2 * config.head_dim;
  limits.attends_per_sequence =
      config.attention == ModelConfig::AttentionKind::kMla ? 1 : config.num_kv_heads;
  limits.max_rows = options.max_rows;
  limits.max_positions = model.rope.num_positions;
  return limits;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Step>> Step::Create(const StepParts& parts,
                                                   const StepOptions& options) {
  std::unique_ptr<Step> step(new Step(parts, options));
  const Model& model = *parts.model;
  RETURN_IF_ERROR(step->Allocate());
  RETURN_IF_ERROR(parts.kernels->ReserveScratch(LargestCalls(model, options)));
  ASSIGN_OR_RETURN(step->places_,
                   parts.kernels->MakeRowPlaces(
                       {.max_rows = options.max_rows, .max_positions = model.rope.num_positions}));
  return step;
}

absl::StatusOr<Step::Bytes> Step::CountBytes(const Model& model, const StepOptions& options,
                                             const Kernels& kernels) {
  CountingDevice device;
  Step step({.model = &model, .device = &device}, options);
  RETURN_IF_ERROR(step.Allocate());
  return Bytes{.device = device.num_bytes() + kernels.ScratchBytes(LargestCalls(model, options)),
               .pinned = device.num_pinned_bytes()};
}

absl::Status Step::Allocate() {
  const Model& model = *parts_.model;
  const ModelConfig& config = model.config;
  Device* const device = parts_.device;
  ASSIGN_OR_RETURN(attention_, AttentionLayer::Create(model, options_.max_rows, device));
  ASSIGN_OR_RETURN(moe_, MoeLayer::Create(config, model.numerics,
                                          {.device = device,
                                           .exchange = parts_.exchange,
                                           .directory = parts_.directory,
                                           .metrics = parts_.metrics},
                                          {.max_rows = options_.max_rows,
                                           .hedge = parts_.hedge,
                                           .audit_one_in = parts_.audit_one_in}));
  const auto allocate = [&](size_t num_rows, size_t num_cols, MemoryKind kind) {
    return device->Allocate(num_rows * num_cols * sizeof(float), kind);
  };
  const size_t rows = options_.max_rows, logit_rows = options_.max_logit_rows;
  const size_t hidden = config.hidden_size, vocab = config.vocab_size;
  ASSIGN_OR_RETURN(hidden_, allocate(rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(normed_, allocate(rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(addend_, allocate(rows, hidden, MemoryKind::kDevice));
  if (model.mtp.has_value()) {
    ASSIGN_OR_RETURN(draft_hidden_, allocate(rows, hidden, MemoryKind::kDevice));
    ASSIGN_OR_RETURN(draft_inputs_, allocate(rows, 2 * hidden, MemoryKind::kDevice));
  }
  if (config.num_experts > 0) {
    ASSIGN_OR_RETURN(forced_ids_,
                     device->Allocate(rows * config.num_experts_per_token * sizeof(int32_t),
                                      MemoryKind::kDevice));
  }
  ASSIGN_OR_RETURN(head_rows_, allocate(logit_rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(logits_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(logprobs_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(host_logprobs_, allocate(logit_rows, vocab, MemoryKind::kPinnedHost));
  ASSIGN_OR_RETURN(first_logits_, allocate(logit_rows, 1, MemoryKind::kPinnedHost));
  return absl::OkStatus();
}

absl::Status Step::Run(const Batch& batch, const KvCache& cache, StepProbe* probe) {
  const Model& model = *parts_.model;
  const Pass pass = Begin(batch, cache, probe);
  const Matrix hidden = Rows(hidden_, pass.num_rows);

  RETURN_IF_ERROR(UntilUndisputed([&]() -> absl::Status {
    parts_.kernels->Embed(model.embedding.dtype, model.embedding.data.data(), batch.ids,
                          hidden.Rows(0, batch.num_rows()));
    for (const LayerWeights& layer : model.layers) {
      RETURN_IF_ERROR(RunLayer(layer, pass, hidden));
    }
    return moe_.Review(batch);
  }));
  return Head(batch, model.final_norm, probe, hidden_);
}

absl::Status Step::UntilUndisputed(absl::FunctionRef<absl::Status()> compute) {
  absl::Status status = compute();
  // There is one shard less to ask each time.
  while (absl::IsAborted(status)) status = compute();
  return status;
}

absl::Status Step::Draft(const MtpBatch& batch, const KvCache& cache, StepProbe* probe) {
  const Model& model = *parts_.model;
  ORRERY_CHECK(model.mtp.has_value()) << "the model was loaded without its MTP module";
  ORRERY_CHECK(batch.hidden_rows.size() == batch.rows.ids.size())
      << batch.hidden_rows.size() << " hidden rows for " << batch.rows.ids.size() << " ids";
  const MtpWeights& mtp = *model.mtp;
  Kernels& kernels = *parts_.kernels;
  const int width = model.config.hidden_size;
  const Pass pass = Begin(batch.rows, cache, probe);
  const Matrix hidden = Rows(draft_hidden_, pass.num_rows);
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
  RETURN_IF_ERROR(UntilUndisputed([&]() -> absl::Status {
    kernels.Matmul(inputs, *mtp.join, nullptr, hidden.Rows(0, batch.rows.num_rows()));
    return RunLayer(mtp.layer, pass, hidden);
  }));
  return Head(batch.rows, mtp.output_norm, probe, draft_hidden_);
}

Step::Pass Step::Begin(const Batch& batch, const KvCache& cache, StepProbe* probe) {
  ORRERY_CHECK(batch.num_rows() <= options_.max_rows)
      << batch.num_rows() << " rows of " << options_.max_rows;
  places_->Set(batch.spans);
  Pass pass = {.batch = &batch, .cache = &cache, .probe = probe, .num_rows = batch.num_rows()};
  // Somebody who looks on between two calls sees them happen, one after the other.
  if (options_.replay && probe == nullptr && parts_.stream->can_capture()) {
    pass.shape = places_->shape();
  }
  if (pass.shape.num_rows > 0) pass.num_rows = pass.shape.num_rows;
  return pass;
}

absl::Status Step::RunLayer(const LayerWeights& layer, const Pass& pass, Matrix hidden) {
  if (parts_.metrics != nullptr) parts_.metrics->heartbeat.Beat();
  RETURN_IF_ERROR(Queue(layer, kAttention, pass, [&] {
    attention_.Run(layer, *places_, *pass.cache, *parts_.kernels, hidden);
  }));
  if (pass.probe) {
    pass.probe->OnAttention(layer.index, OnHost(attention_.out(pass.num_rows)));
  }
  RETURN_IF_ERROR(FeedForward(layer, pass, hidden));
  if (pass.probe) pass.probe->OnHidden(layer.index, OnHost(hidden));
  return absl::OkStatus();
}

absl::Status Step::FeedForward(const LayerWeights& layer, const Pass& pass, Matrix hidden) {
  Kernels& kernels = *parts_.kernels;
  const Matrix normed = Rows(normed_, pass.num_rows);
  const Matrix addend = Rows(addend_, pass.num_rows);
  const auto add = [&] {
    if (pass.probe) pass.probe->OnFeedForward(layer.index, OnHost(addend));
    kernels.Add(addend, hidden);
  };
  if (!layer.moe.has_value()) {
    const FeedForwardWeights& dense = *layer.dense;
    return Queue(layer, kFeedForward, pass, [&] {
      RmsNorm(layer.feed_forward_norm, hidden, normed);
      kernels.FeedForward(normed, *dense.gate, *dense.up, *dense.down, addend);
      add();
    });
  }

  const MoeWeights& moe = *layer.moe;
  const int32_t* const forced_ids = ForcedExperts(layer.index, pass);
  RETURN_IF_ERROR(Queue(layer, kFeedForward, pass, [&] {
    RmsNorm(layer.feed_forward_norm, hidden, normed);
    moe_.Choose(moe, normed, forced_ids, kernels);
  }));
  RETURN_IF_ERROR(moe_.Exchange(layer.index, *pass.batch, *parts_.stream, [&] {
    if (!moe.shared.has_value()) return absl::OkStatus();
    return Queue(layer, kSharedExpert, pass, [&] {
      kernels.FeedForward(normed, *moe.shared->gate, *moe.shared->up, *moe.shared->down, addend);
    });
  }));
  RETURN_IF_ERROR(Queue(layer, kCombine, pass, [&] {
    moe_.Combine(moe, kernels, addend);
    add();
  }));
  if (pass.probe) {
    const ConstMatrix weights = OnHost(moe_.chosen_weights(pass.num_rows));
    const absl::Span<const int32_t> ids = moe_.expert_ids(pass.num_rows);
    pass.probe->OnGate(layer.index, ids, {weights.data, ids.size()});
  }
  return absl::OkStatus();
}

absl::Status Step::Queue(const LayerWeights& layer, int part, const Pass& pass,
                         absl::FunctionRef<void()> work) {
  const void* const cache = pass.cache->layer(layer.index).data;
  return replays_.Run({.layer = layer.index, .part = part, .shape = pass.shape, .cache = cache},
                      work);
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
  if (probe) probe->OnLogits(OnHost(logits));
  kernels.LogSoftmax(logits, logprobs);
  parts_.stream->CopyToHost(
      host_logprobs_.data(), logprobs.data,
      static_cast<size_t>(num_rows) * model.config.vocab_size * sizeof(float));
  for (int row = 0; row < num_rows; ++row) {
    parts_.stream->CopyToHost(first_logits_.as<float>() + row, logits.row(row), sizeof(float));
  }
  return parts_.stream->Synchronize();
}

Matrix Step::Rows(const Buffer& buffer, int num_rows) const {
  return Matrix(buffer.as<float>(), num_rows, parts_.model->config.hidden_size);
}

ConstMatrix Step::OnHost(ConstMatrix rows) {
  seen_.resize(rows.num_rows * rows.num_cols);
  for (int64_t row = 0; row < rows.num_rows; ++row) {
    parts_.stream->CopyToHost(seen_.data() + row * rows.num_cols, rows.row(row),
                              rows.num_cols * sizeof(float));
  }
  const absl::Status status = parts_.stream->Synchronize();
  ORRERY_CHECK(status.ok()) << "while a probe looked on: " << status;
  return ConstMatrix(seen_.data(), rows.num_rows, rows.num_cols);
}

const int32_t* Step::ForcedExperts(int layer, const Pass& pass) {
  const int32_t* const ids = pass.probe ? pass.probe->ForcedExperts(layer) : nullptr;
  if (ids == nullptr) return nullptr;
  const size_t num_bytes = static_cast<size_t>(pass.num_rows) *
                           parts_.model->config.num_experts_per_token * sizeof(*ids);
  parts_.stream->CopyToDevice(forced_ids_.data(), ids, num_bytes);
  return forced_ids_.as<int32_t>();
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
