#include "tools/check/trace.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"

namespace orrery {
namespace {

constexpr absl::Duration kStepTimeout = absl::Seconds(60);

void Append(ConstMatrix rows, std::vector<float>& values) {
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    values.insert(values.end(), rows.row(r), rows.row(r) + rows.num_cols);
  }
}

class Recorder : public StepProbe {
 public:
  Recorder(const TraceRequest* request, int num_layers, int topk, Trace* trace)
      : request_(request), topk_(topk), trace_(trace) {
    trace->attention.resize(num_layers);
    trace->feed_forward.resize(num_layers);
    trace->hidden.resize(num_layers);
  }
  // What comes is of these rows, and its logits go there.
  void Begin(int first_row, int num_rows, std::vector<float>* logits) {
    first_row_ = first_row;
    num_rows_ = num_rows;
    logits_ = logits;
  }

  void OnAttention(int layer, ConstMatrix out) override { Append(out, trace_->attention[layer]); }
  void OnFeedForward(int layer, ConstMatrix out) override {
    Append(out, trace_->feed_forward[layer]);
  }
  void OnHidden(int layer, ConstMatrix hidden) override { Append(hidden, trace_->hidden[layer]); }
  void OnLogits(ConstMatrix logits) override { Append(logits, *logits_); }
  void OnGate(int layer, absl::Span<const int32_t> ids, absl::Span<const float> weights) override {
    Routing& routing = trace_->routing[layer];
    routing.ids.insert(routing.ids.end(), ids.begin(), ids.end());
    routing.weights.insert(routing.weights.end(), weights.begin(), weights.end());
  }
  const int32_t* ForcedExperts(int layer) override {
    const auto forced = request_->forced_experts.find(layer);
    if (forced == request_->forced_experts.end()) return nullptr;
    const size_t begin = static_cast<size_t>(first_row_) * topk_;
    const size_t end = begin + static_cast<size_t>(num_rows_) * topk_;
    return end <= forced->second.size() ? forced->second.data() + begin : nullptr;
  }

 private:
  const TraceRequest* request_;
  const int topk_;
  Trace* trace_;
  int first_row_ = 0;
  int num_rows_ = 0;
  std::vector<float>* logits_ = nullptr;
};

// Positions [begin, end) of one layer.
absl::StatusOr<std::vector<float>> ReadCache(const KvCacheView& cache,
                                             absl::Span<const int32_t> block_ids, int begin,
                                             int end, Stream& stream) {
  const size_t row_bytes = size_t{1} * cache.row_width * DTypeBytes(cache.format);
  std::vector<std::byte> rows((end - begin) * row_bytes);
  for (int position = begin; position < end; ++position) {
    const size_t row = static_cast<size_t>(block_ids[position / kKvBlockTokens]) * kKvBlockTokens +
                       position % kKvBlockTokens;
    stream.CopyToHost(rows.data() + (position - begin) * row_bytes, cache.data + row * row_bytes,
                      row_bytes);
  }
  RETURN_IF_ERROR(stream.Synchronize());
  std::vector<float> values(static_cast<size_t>(end - begin) * cache.row_width);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = cache.format == DType::kF32
                    ? reinterpret_cast<const float*>(rows.data())[i]
                    : Bf16ToF32(reinterpret_cast<const uint16_t*>(rows.data())[i]);
  }
  return values;
}

// The one sequence of a trace, step by step.
class TracedSequence {
 public:
  TracedSequence(const TraceRequest* request, Step* step, const KvCache* cache, Trace* trace)
      : request_(request),
        step_(step),
        cache_(cache),
        trace_(trace),
        block_ids_(cache->num_blocks()),
        recorder_(request, config().num_layers + (request->mtp_ids.empty() ? 0 : 1),
                  config().num_experts_per_token, trace) {
    std::iota(block_ids_.begin(), block_ids_.end(), 0);
  }

  // Rows [begin, begin + count) of the model.
  absl::Status RunRows(int begin, int count) {
    const Batch batch = BatchOf(absl::MakeSpan(request_->ids).subspan(begin, count), begin);
    recorder_.Begin(begin, count, &trace_->logits);
    return step_->Run(batch, *cache_, &recorder_);
  }

  // The same rows of the MTP module, as far as it has them.
  absl::Status DraftRows(int begin, int count) {
    count = std::min(count, static_cast<int>(request_->mtp_ids.size()) - begin);
    if (count <= 0) return absl::OkStatus();
    MtpBatch batch;
    batch.rows = BatchOf(absl::MakeSpan(request_->mtp_ids).subspan(begin, count), begin + 1);
    for (int row = 0; row < count; ++row) batch.hidden_rows.push_back(row);
    recorder_.Begin(begin, count, &trace_->mtp_logits);
    last_draft_row_ = count - 1;
    return step_->Draft(batch, *cache_, &recorder_);
  }

  // One row of the module behind its last one, which was row `row - 1` of all.
  absl::Status Chain(int row) {
    const int32_t id = LikeliestId(step_->logprobs(last_draft_row_));
    MtpBatch batch;
    batch.rows = BatchOf({&id, 1}, row + 1);
    batch.hidden_rows = {last_draft_row_};
    batch.source = MtpBatch::Source::kDraft;
    recorder_.Begin(row, 1, &trace_->mtp_logits);
    last_draft_row_ = 0;
    return step_->Draft(batch, *cache_, &recorder_);
  }

  // What stands in the cache: of the module's layer num_draft_rows, from position 1.
  absl::Status ReadCaches(int num_rows, int num_draft_rows, Stream& stream) {
    const int num_layers = config().num_layers;
    const auto read = [&](int layer, int begin, int end) -> absl::Status {
      ASSIGN_OR_RETURN(std::vector<float> values,
                       ReadCache(cache_->layer(layer), block_ids_, begin, end, stream));
      trace_->cache.push_back(std::move(values));
      return absl::OkStatus();
    };
    for (int layer = 0; layer < num_layers; ++layer) RETURN_IF_ERROR(read(layer, 0, num_rows));
    return num_draft_rows == 0 ? absl::OkStatus() : read(num_layers, 1, 1 + num_draft_rows);
  }

 private:
  const ModelConfig& config() const { return step_->model().config; }

  Batch BatchOf(absl::Span<const int32_t> ids, int first_position) const {
    Batch batch;
    batch.ids.assign(ids.begin(), ids.end());
    batch.spans.push_back({.row_begin = 0,
                           .num_rows = batch.num_rows(),
                           .first_position = first_position,
                           .block_ids = block_ids_});
    for (int row = 0; row < batch.num_rows(); ++row) batch.logit_rows.push_back(row);
    batch.lane = first_position < request_->num_prefill ? Lane::kBulk : Lane::kDecode;
    batch.expert_timeout = kStepTimeout;
    return batch;
  }

  static int32_t LikeliestId(absl::Span<const float> logprobs) {
    return static_cast<int32_t>(std::max_element(logprobs.begin(), logprobs.end()) -
                                logprobs.begin());
  }

  const TraceRequest* request_;
  Step* step_;
  const KvCache* cache_;
  Trace* trace_;
  std::vector<int32_t> block_ids_;
  Recorder recorder_;
  int last_draft_row_ = 0;  // within the module's last pass
};

}  // namespace

absl::StatusOr<Trace> RunTrace(const StepParts& parts, const TraceRequest& request) {
  const int num_rows = static_cast<int>(request.ids.size());
  const int num_mtp_rows = static_cast<int>(request.mtp_ids.size());
  ORRERY_CHECK(num_mtp_rows <= num_rows) << num_mtp_rows << " rows of the module, " << num_rows;
  const int num_drafts = num_mtp_rows == 0 ? 0 : num_mtp_rows + request.num_chained_drafts;
  const int num_positions = std::max(num_rows, num_drafts + 1);
  const int chunk = request.chunk_rows > 0 ? request.chunk_rows : std::max(1, request.num_prefill);
  ASSIGN_OR_RETURN(const std::unique_ptr<Step> step,
                   Step::Create(parts, {.max_rows = chunk, .max_logit_rows = chunk}));
  ASSIGN_OR_RETURN(const KvCache cache,
                   KvCache::Create(*parts.model, KvCache::BlocksFor(num_positions), parts.device));

  Trace trace;
  TracedSequence sequence(&request, step.get(), &cache, &trace);
  for (int begin = 0, count = 0; begin < num_rows; begin += count) {
    count = begin < request.num_prefill ? std::min(chunk, request.num_prefill - begin) : 1;
    RETURN_IF_ERROR(sequence.RunRows(begin, count));
    RETURN_IF_ERROR(sequence.DraftRows(begin, count));
  }
  for (int row = num_mtp_rows; row < num_drafts; ++row) RETURN_IF_ERROR(sequence.Chain(row));
  RETURN_IF_ERROR(sequence.ReadCaches(num_rows, num_drafts, *parts.stream));
  return trace;
}

}  // namespace orrery
