#include "tools/check/trace.h"

#include <algorithm>
#include <cstring>

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
  void set_first_position(int position) { first_position_ = position; }

  void OnAttention(int layer, ConstMatrix out) override { Append(out, trace_->attention[layer]); }
  void OnFeedForward(int layer, ConstMatrix out) override {
    Append(out, trace_->feed_forward[layer]);
  }
  void OnHidden(int layer, ConstMatrix hidden) override { Append(hidden, trace_->hidden[layer]); }
  void OnLogits(ConstMatrix logits) override { Append(logits, trace_->logits); }
  void OnGate(int layer, absl::Span<const int32_t> ids, absl::Span<const float> weights) override {
    Routing& routing = trace_->routing[layer];
    routing.ids.insert(routing.ids.end(), ids.begin(), ids.end());
    routing.weights.insert(routing.weights.end(), weights.begin(), weights.end());
  }
  const int32_t* ForcedExperts(int layer) override {
    const auto forced = request_->forced_experts.find(layer);
    if (forced == request_->forced_experts.end()) return nullptr;
    return forced->second.data() + static_cast<size_t>(first_position_) * topk_;
  }

 private:
  const TraceRequest* request_;
  const int topk_;
  Trace* trace_;
  int first_position_ = 0;
};

std::vector<float> ReadCache(const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                             int num_rows) {
  std::vector<float> values;
  for (int position = 0; position < num_rows; ++position) {
    const size_t row = static_cast<size_t>(block_ids[position / kKvBlockTokens]) * kKvBlockTokens +
                       position % kKvBlockTokens;
    for (int i = 0; i < cache.row_width; ++i) {
      const std::byte* value = cache.data + (row * cache.row_width + i) * DTypeBytes(cache.format);
      if (cache.format == DType::kF32) {
        values.push_back(*reinterpret_cast<const float*>(value));
      } else {
        values.push_back(Bf16ToF32(*reinterpret_cast<const uint16_t*>(value)));
      }
    }
  }
  return values;
}

}  // namespace

absl::StatusOr<Trace> RunTrace(const StepParts& parts, const TraceRequest& request) {
  const ModelConfig& config = parts.model->config;
  const int num_rows = static_cast<int>(request.ids.size());
  const int chunk = request.chunk_rows > 0 ? request.chunk_rows : std::max(1, request.num_prefill);
  ASSIGN_OR_RETURN(const std::unique_ptr<Step> step,
                   Step::Create(parts, {.max_rows = chunk, .max_logit_rows = chunk}));
  ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(config, parts.model->numerics.kv_format(),
                                                  KvCache::BlocksFor(num_rows), parts.device));
  std::vector<int32_t> block_ids;
  ORRERY_CHECK(cache.Reserve(num_rows, block_ids)) << num_rows << " rows";

  Trace trace;
  Recorder recorder(&request, config.num_layers, config.num_experts_per_token, &trace);
  for (int position = 0; position < num_rows;) {
    const int count =
        position < request.num_prefill ? std::min(chunk, request.num_prefill - position) : 1;
    Batch batch;
    batch.ids.assign(request.ids.begin() + position, request.ids.begin() + position + count);
    batch.spans.push_back(
        {.row_begin = 0, .num_rows = count, .first_position = position, .block_ids = block_ids});
    for (int row = 0; row < count; ++row) batch.logit_rows.push_back(row);
    batch.deadline = absl::Now() + kStepTimeout;
    recorder.set_first_position(position);
    RETURN_IF_ERROR(step->Run(batch, cache, &recorder));
    position += count;
  }
  for (int layer = 0; layer < config.num_layers; ++layer) {
    trace.cache.push_back(ReadCache(cache.layer(layer), block_ids, num_rows));
  }
  return trace;
}

}  // namespace orrery
