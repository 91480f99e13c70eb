#include "services/attention/step.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "device/counting_device.h"
#include "services/attention/micro_batches.h"

namespace orrery {
namespace {

// Parts of a layer that are captured apart.
enum LayerPart {
  kAttention,
  kFeedForward,  // of a MoE layer up to its rows' way out
  kSharedExpert,
  kCombine,
  kNumLayerParts,
};

// The largest calls of a step, for the scratch memory of its kernels.
ScratchLimits LargestCalls(const Model& model, const StepOptions& options, int max_second_rows) {
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
  limits.max_second_rows = max_second_rows;
  limits.max_positions = model.rope.num_positions;
  return limits;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Step>> Step::Create(const StepParts& parts,
                                                   const StepOptions& options) {
  std::unique_ptr<Step> step(new Step(parts, options));
  const Model& model = *parts.model;
  RETURN_IF_ERROR(step->Allocate());
  RETURN_IF_ERROR(parts.kernels->ReserveScratch(LargestCalls(model, options, step->MaxRowsOf(1))));
  for (int i = 0; i < step->NumMicroBatches(); ++i) {
    ASSIGN_OR_RETURN(step->scratch_[i].places,
                     parts.kernels->MakeRowPlaces({.max_rows = step->MaxRowsOf(i),
                                                   .max_positions = model.rope.num_positions}));
  }
  return step;
}

absl::StatusOr<Step::Bytes> Step::CountBytes(const Model& model, const StepOptions& options,
                                             const Kernels& kernels) {
  CountingDevice device;
  Step step({.model = &model, .device = &device}, options);
  RETURN_IF_ERROR(step.Allocate());
  const ScratchLimits limits = LargestCalls(model, options, step.MaxRowsOf(1));
  return Bytes{.device = device.num_bytes() + kernels.ScratchBytes(limits),
               .pinned = device.num_pinned_bytes()};
}

absl::Status Step::Allocate() {
  const Model& model = *parts_.model;
  const ModelConfig& config = model.config;
  Device* const device = parts_.device;
  ASSIGN_OR_RETURN(attention_, AttentionLayer::Create(model, options_.max_rows, device));
  const int topk = config.num_experts_per_token;
  if (config.num_experts > 0) {
    const Numerics& numerics = model.numerics;
    ASSIGN_OR_RETURN(
        oversight_,
        ShardOversight::Create(
            device, parts_.exchange, parts_.directory,
            {.hedge = parts_.hedge,
             .audit_one_in = parts_.audit_one_in,
             .row_sizes = {.row_bytes = EncodedRowBytes(numerics.row_format, config.hidden_size),
                           .result_bytes =
                               EncodedRowBytes(numerics.result_format(), config.hidden_size)},
             .max_results = options_.max_rows * topk}));
  }
  int num_scratch_rows = 0;
  for (int i = 0; i < NumMicroBatches(); ++i) {
    MicroBatchScratch& scratch = scratch_.emplace_back();
    scratch.first_row = num_scratch_rows;
    num_scratch_rows += MaxRowsOf(i);
    ASSIGN_OR_RETURN(scratch.moe, MoeLayer::Create(config, model.numerics,
                                                   {.device = device,
                                                    .exchange = parts_.exchange,
                                                    .directory = parts_.directory,
                                                    .oversight = oversight_.get(),
                                                    .metrics = parts_.metrics},
                                                   MaxRowsOf(i)));
  }
  const auto allocate = [&](size_t num_rows, size_t num_cols, MemoryKind kind) {
    return device->Allocate(num_rows * num_cols * sizeof(float), kind);
  };
  const size_t rows = options_.max_rows, logit_rows = options_.max_logit_rows;
  const size_t hidden = config.hidden_size, vocab = config.vocab_size;
  for (Buffer* const buffer : {&hidden_, &normed_, &addend_}) {
    ASSIGN_OR_RETURN(*buffer, allocate(num_scratch_rows, hidden, MemoryKind::kDevice));
  }
  if (model.mtp.has_value()) {
    ASSIGN_OR_RETURN(draft_hidden_, allocate(rows, hidden, MemoryKind::kDevice));
    ASSIGN_OR_RETURN(draft_inputs_, allocate(rows, 2 * hidden, MemoryKind::kDevice));
  }
  if (config.num_experts > 0) {
    ASSIGN_OR_RETURN(forced_ids_,
                     device->Allocate(rows * topk * sizeof(int32_t), MemoryKind::kDevice));
  }
  ASSIGN_OR_RETURN(head_rows_, allocate(logit_rows, hidden, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(logits_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(logprobs_, allocate(logit_rows, vocab, MemoryKind::kDevice));
  ASSIGN_OR_RETURN(host_logprobs_, allocate(logit_rows, vocab, MemoryKind::kPinnedHost));
  ASSIGN_OR_RETURN(first_logits_, allocate(logit_rows, 1, MemoryKind::kPinnedHost));
  return absl::OkStatus();
}

int Step::NumMicroBatches() const {
  const bool has_experts = parts_.model->config.num_experts > 0;
  return has_experts && options_.max_rows >= 2 * options_.min_micro_batch_rows ? kMaxMicroBatches
                                                                               : 1;
}

int Step::MaxRowsOf(int micro_batch) const {
  if (micro_batch == 0) return options_.max_rows;
  return micro_batch < NumMicroBatches() ? options_.max_rows / 2 : 0;
}

int Step::NumFirstRows(const Batch& batch, const StepProbe* probe) const {
  const int num_rows = batch.num_rows();
  // Somebody who looks on sees the whole batch.
  const bool is_split =
      scratch_.size() > 1 && probe == nullptr && num_rows >= 2 * options_.min_micro_batch_rows;
  return is_split ? (num_rows + 1) / 2 : num_rows;
}

absl::Status Step::Run(const Batch& batch, const KvCache& cache, StepProbe* probe) {
  const Model& model = *parts_.model;
  num_first_rows_ = NumFirstRows(batch, probe);
  const bool is_split = num_first_rows_ < batch.num_rows();
  std::array<Batch, kMaxMicroBatches> parts;
  std::vector<Pass> passes;
  if (is_split) {
    parts = {RowsOf(batch, 0, num_first_rows_), RowsOf(batch, num_first_rows_, batch.num_rows())};
    for (int i = 0; i < kMaxMicroBatches; ++i) {
      passes.push_back(Begin(i, parts[i], cache, probe, hidden_));
    }
  } else {
    passes.push_back(Begin(0, batch, cache, probe, hidden_));
  }
  RETURN_IF_ERROR(UntilUndisputed([&]() -> absl::Status {
    for (const Pass& pass : passes) {
      parts_.kernels->Embed(model.embedding.dtype, model.embedding.data.data(), pass.batch->ids,
                            pass.hidden.Rows(0, pass.batch->num_rows()));
    }
    RETURN_IF_ERROR(RunLayers(model.layers, absl::MakeSpan(passes)));
    return oversight_ != nullptr ? oversight_->Review(batch) : absl::OkStatus();
  }));
  return Head(HiddenRows(batch.logit_rows), model.final_norm, probe, hidden_);
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
  Pass pass = Begin(/*micro_batch=*/0, batch.rows, cache, probe, draft_hidden_);
  const Matrix inputs(draft_inputs_.as<float>(), batch.rows.num_rows(), 2 * width);
  const bool chained = batch.source == MtpBatch::Source::kDraft;

  const Matrix next_tokens = inputs.Columns(0, width);
  kernels.Embed(model.embedding.dtype, model.embedding.data.data(), batch.rows.ids, next_tokens);
  RmsNorm(mtp.embedding_norm, next_tokens, next_tokens);
  // The hidden state as the head saw it: behind the norm of the pass that it comes from.
  const Matrix states = inputs.Columns(width, width);
  if (chained) {
    Gather(draft_hidden_, batch.hidden_rows, states);
  } else {
    Gather(hidden_, HiddenRows(batch.hidden_rows), states);
  }
  RmsNorm(chained ? mtp.output_norm : model.final_norm, states, states);
  RmsNorm(mtp.hidden_norm, states, states);
  RETURN_IF_ERROR(UntilUndisputed([&]() -> absl::Status {
    kernels.Matmul(inputs, *mtp.join, nullptr, pass.hidden.Rows(0, batch.rows.num_rows()));
    return RunLayers({&mtp.layer, 1}, {&pass, 1});
  }));
  return Head(batch.rows.logit_rows, mtp.output_norm, probe, draft_hidden_);
}

Step::Pass Step::Begin(int micro_batch, const Batch& batch, const KvCache& cache, StepProbe* probe,
                       const Buffer& hidden) {
  ORRERY_CHECK(batch.num_rows() <= MaxRowsOf(micro_batch))
      << batch.num_rows() << " rows of " << MaxRowsOf(micro_batch);
  RowPlaces& places = *scratch_[micro_batch].places;
  places.Set(batch.spans);
  Pass pass = {.micro_batch = micro_batch,
               .batch = &batch,
               .cache = &cache,
               .probe = probe,
               .num_rows = batch.num_rows()};
  // Somebody who looks on between two calls sees them happen, one after the other.
  if (options_.replay && probe == nullptr && parts_.stream->can_capture()) {
    pass.shape = places.shape();
  }
  if (pass.shape.num_rows > 0) pass.num_rows = pass.shape.num_rows;
  pass.hidden = Rows(hidden, pass);
  return pass;
}

absl::Status Step::RunLayers(absl::Span<const LayerWeights> layers, absl::Span<Pass> passes) {
  const auto run = [&]() -> absl::Status {
    for (const LayerWeights& layer : layers) {
      for (Pass& pass : passes) {
        RETURN_IF_ERROR(FinishLayer(pass));
        RETURN_IF_ERROR(BeginLayer(layer, pass));
      }
    }
    for (Pass& pass : passes) RETURN_IF_ERROR(FinishLayer(pass));
    return absl::OkStatus();
  };
  absl::Status status = run();
  if (!status.ok()) {
    for (Pass& pass : passes) {
      pass.awaited = nullptr;
      scratch_[pass.micro_batch].moe.GiveUp();
    }
  }
  return status;
}

absl::Status Step::BeginLayer(const LayerWeights& layer, Pass& pass) {
  if (parts_.metrics != nullptr) parts_.metrics->heartbeat.Beat();
  RETURN_IF_ERROR(Queue(layer, kAttention, pass, [&] {
    attention_.Run(layer, *scratch_[pass.micro_batch].places, *pass.cache, *parts_.kernels,
                   pass.hidden);
  }));
  if (pass.probe) {
    pass.probe->OnAttention(layer.index, OnHost(attention_.out(pass.num_rows)));
  }
  if (layer.moe.has_value()) return SendToExperts(layer, pass);

  Kernels& kernels = *parts_.kernels;
  const FeedForwardWeights& dense = *layer.dense;
  const Matrix normed = Rows(normed_, pass), addend = Rows(addend_, pass);
  RETURN_IF_ERROR(Queue(layer, kFeedForward, pass, [&] {
    RmsNorm(layer.feed_forward_norm, pass.hidden, normed);
    kernels.FeedForward(normed, *dense.gate, *dense.up, *dense.down, addend);
    AddFeedForward(layer, pass);
  }));
  if (pass.probe) pass.probe->OnHidden(layer.index, OnHost(pass.hidden));
  return absl::OkStatus();
}

absl::Status Step::SendToExperts(const LayerWeights& layer, Pass& pass) {
  Kernels& kernels = *parts_.kernels;
  MoeLayer& experts = scratch_[pass.micro_batch].moe;
  const MoeWeights& moe = *layer.moe;
  const Matrix normed = Rows(normed_, pass);
  const int32_t* const forced_ids = ForcedExperts(layer.index, pass);
  RETURN_IF_ERROR(Queue(layer, kFeedForward, pass, [&] {
    RmsNorm(layer.feed_forward_norm, pass.hidden, normed);
    experts.Choose(moe, normed, forced_ids, kernels);
  }));
  RETURN_IF_ERROR(experts.SendRows(layer.index, *pass.batch, *parts_.stream));
  pass.awaited = &layer;
  if (!moe.shared.has_value()) return absl::OkStatus();
  return Queue(layer, kSharedExpert, pass, [&] {
    kernels.FeedForward(normed, *moe.shared->gate, *moe.shared->up, *moe.shared->down,
                        Rows(addend_, pass));
  });
}

absl::Status Step::FinishLayer(Pass& pass) {
  const LayerWeights* const layer = std::exchange(pass.awaited, nullptr);
  if (layer == nullptr) return absl::OkStatus();
  MoeLayer& experts = scratch_[pass.micro_batch].moe;
  RETURN_IF_ERROR(experts.AwaitResults(layer->index, *pass.batch));
  RETURN_IF_ERROR(Queue(*layer, kCombine, pass, [&] {
    experts.Combine(*layer->moe, *parts_.kernels, Rows(addend_, pass));
    AddFeedForward(*layer, pass);
  }));
  if (pass.probe == nullptr) return absl::OkStatus();
  const ConstMatrix weights = OnHost(experts.chosen_weights(pass.num_rows));
  const absl::Span<const int32_t> ids = experts.expert_ids(pass.num_rows);
  pass.probe->OnGate(layer->index, ids, {weights.data, ids.size()});
  pass.probe->OnHidden(layer->index, OnHost(pass.hidden));
  return absl::OkStatus();
}

void Step::AddFeedForward(const LayerWeights& layer, const Pass& pass) {
  const Matrix addend = Rows(addend_, pass);
  if (pass.probe) pass.probe->OnFeedForward(layer.index, OnHost(addend));
  parts_.kernels->Add(addend, pass.hidden);
}

absl::Status Step::Queue(const LayerWeights& layer, int part, const Pass& pass,
                         absl::FunctionRef<void()> work) {
  const void* const cache = pass.cache->layer(layer.index).data;
  return replays_.Run({.layer = layer.index,
                       .part = pass.micro_batch * kNumLayerParts + part,
                       .shape = pass.shape,
                       .cache = cache},
                      work);
}

absl::Status Step::Head(absl::Span<const int32_t> hidden_rows, const Buffer& output_norm,
                        StepProbe* probe, const Buffer& hidden) {
  const Model& model = *parts_.model;
  const int num_rows = static_cast<int>(hidden_rows.size());
  ORRERY_CHECK(num_rows <= options_.max_logit_rows)
      << num_rows << " of " << options_.max_logit_rows;
  Kernels& kernels = *parts_.kernels;
  const Matrix rows(head_rows_.as<float>(), num_rows, model.config.hidden_size);
  const Matrix logits(logits_.as<float>(), num_rows, model.config.vocab_size);
  const Matrix logprobs(logprobs_.as<float>(), num_rows, model.config.vocab_size);

  Gather(hidden, hidden_rows, rows);
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

Matrix Step::Rows(const Buffer& buffer, const Pass& pass) const {
  const int64_t width = parts_.model->config.hidden_size;
  return Matrix(buffer.as<float>() + scratch_[pass.micro_batch].first_row * width, pass.num_rows,
                width);
}

std::vector<int32_t> Step::HiddenRows(absl::Span<const int32_t> rows) const {
  std::vector<int32_t> places(rows.begin(), rows.end());
  for (int32_t& place : places) {
    if (place >= num_first_rows_) place += scratch_[1].first_row - num_first_rows_;
  }
  return places;
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
