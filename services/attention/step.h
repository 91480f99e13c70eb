// One pass of a batch through all layers: the spine of the attention service.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Step> step, Step::Create(parts, options));
//   RETURN_IF_ERROR(step->Run(batch, cache, /*probe=*/nullptr));
//   absl::Span<const float> logprobs = step->logprobs(0);     // of batch.logit_rows[0]
//   RETURN_IF_ERROR(step->Draft(mtp_batch, cache, nullptr));  // what comes after the next tokens
//
// The rows' keys and values stand in the cache afterwards. A Run that fails may be repeated: it
// appends the same values to the same places. So may a Draft behind a Run; a chained one may not,
// since the output that it began with is gone.
//
// A pass in which a shard was convicted of wrong answers (court.h) is computed again without it, before
// anything of it is seen.
//
// A batch with rows enough is computed in two micro-batches, in turns: while the experts have the rows of one, the
// attention of the other goes on. Whether it is changes no bit.
//
// Where the stream can, the parts of layers are captured for each shape of batch, and replayed
// (replays.h). The host waits where rows leave for the experts, and at the end.
//
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_STEP_H_
#define ORRERY_SERVICES_ATTENTION_STEP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "device/device.h"
#include "exchange/exchange.h"
#include "kernels/kernels.h"
#include "services/attention/attention_layer.h"
#include "services/attention/batch.h"
#include "services/attention/expert_directory.h"
#include "services/attention/kv_cache.h"
#include "services/attention/model.h"
#include "services/attention/moe_layer.h"
#include "services/attention/rank_metrics.h"
#include "services/attention/replays.h"
#include "services/attention/shard_health.h"
#include "services/attention/shard_oversight.h"

namespace orrery {

// What a step computes with. All outlive it. exchange and directory are null for a dense model, and
// hedge and audit_one_in are of no use to it.
struct StepParts {
  const Model* model = nullptr;
  Kernels* kernels = nullptr;
  Device* device = nullptr;
  Stream* stream = nullptr;
  RankExchange* exchange = nullptr;
  ExpertDirectory* directory = nullptr;
  HedgeOptions hedge = {};
  // See moe_layer.h.
  int audit_one_in = 10'000;
  RankMetrics* metrics = nullptr;  // may be null
};

struct StepOptions {
  int max_rows = 256;
  int max_logit_rows = 1;
  // Of a micro-batch: a batch with fewer than twice as many is computed as one. Each reads all weights, of the rank
  // and of the experts, so it must have so many rows that this is not what takes the time.
  int min_micro_batch_rows = 128;
  bool replay = true;  // false: nothing is captured; for tests and comparisons
};

class Step {
 public:
  static absl::StatusOr<std::unique_ptr<Step>> Create(const StepParts& parts,
                                                      const StepOptions& options);

  // What Create will take of the device's memory, kernels included, and of pinned memory of the host. The
  // model needs no weights.
  struct Bytes {
    size_t device = 0;
    size_t pinned = 0;
  };
  static absl::StatusOr<Bytes> CountBytes(const Model& model, const StepOptions& options,
                                          const Kernels& kernels);

  // Errors: those of MoeLayer, and of the stream. probe may be null.
  absl::Status Run(const Batch& batch, const KvCache& cache, StepProbe* probe);

  // One pass of the MTP module, all rows at once, behind a Run, or behind another Draft. Needs a model that was loaded
  // with it. Errors as Run. Source: DeepSeek-V3 technical report, 2.2; what it leaves open (which
  // half of eh_proj is which, norms of the hidden state) as SGLang and vLLM do it.
  absl::Status Draft(const MtpBatch& batch, const KvCache& cache, StepProbe* probe);

  // Log-probabilities [vocab_size] of the index-th of batch.logit_rows, in host memory, until the
  // next Run or Draft.
  absl::Span<const float> logprobs(int index) const;
  // What its logits are more than its log-probabilities: the same for all ids, taken from id 0.
  float log_normalizer(int index) const;

  const Model& model() const { return *parts_.model; }
  const StepOptions& options() const { return options_; }
  int num_graphs() const { return replays_.num_graphs(); }
  // Shards convicted since the start: what earlier steps left in the cache may be wrong.
  int num_convictions() const { return oversight_ != nullptr ? oversight_->num_convictions() : 0; }

 private:
  static constexpr int kMaxMicroBatches = 2;
  // The first may be all of the batch.
  struct MicroBatchScratch {
    int first_row = 0;  // of its rows in hidden_, normed_ and addend_
    MoeLayer moe;
    std::unique_ptr<RowPlaces> places;
  };
  // A micro-batch on its way through the layers.
  struct Pass {
    int micro_batch = 0;
    const Batch* batch = nullptr;
    const KvCache* cache = nullptr;
    StepProbe* probe = nullptr;             // may be null
    BatchShape shape = {};                  // without rows: nothing is captured
    int num_rows = 0;                       // of the matrices: the shape's, else the batch's
    Matrix hidden = {};                     // of its rows
    const LayerWeights* awaited = nullptr;  // the MoE layer whose experts have its rows
  };

  explicit Step(const StepParts& parts, const StepOptions& options)
      : parts_(parts), options_(options), replays_(parts.stream) {}
  absl::Status Allocate();
  int NumMicroBatches() const;
  int MaxRowsOf(int micro_batch) const;  // 0: there is none
  // How many rows the first micro-batch has: all, or about half.
  int NumFirstRows(const Batch& batch, const StepProbe* probe) const;
  Pass Begin(int micro_batch, const Batch& batch, const KvCache& cache, StepProbe* probe,
             const Buffer& hidden);
  // Computes again while that convicts shards.
  static absl::Status UntilUndisputed(absl::FunctionRef<absl::Status()> compute);
  // Every layer in turn, of every pass in turn: hidden += attention, hidden += feed-forward.
  absl::Status RunLayers(absl::Span<const LayerWeights> layers, absl::Span<Pass> passes);
  // One layer of one pass, up to where its rows are with the experts; if it has some. And the rest of it.
  absl::Status BeginLayer(const LayerWeights& layer, Pass& pass);
  absl::Status FinishLayer(Pass& pass);
  absl::Status SendToExperts(const LayerWeights& layer, Pass& pass);
  // Queues hidden += addend.
  void AddFeedForward(const LayerWeights& layer, const Pass& pass);
  // Where the rows of the last Run stand in hidden_.
  std::vector<int32_t> HiddenRows(absl::Span<const int32_t> rows) const;
  // Work that is the same for every batch of the pass's shape.
  absl::Status Queue(const LayerWeights& layer, int part, const Pass& pass,
                     absl::FunctionRef<void()> work);
  // Log-probabilities of these rows of `hidden`, normed with output_norm before.
  absl::Status Head(absl::Span<const int32_t> hidden_rows, const Buffer& output_norm,
                    StepProbe* probe, const Buffer& hidden);
  // The pass's rows of a scratch buffer.
  Matrix Rows(const Buffer& buffer, const Pass& pass) const;
  // For a probe: once all that is queued has been done; until the next call.
  ConstMatrix OnHost(ConstMatrix rows);
  // On the device; null to leave the choice to the gate.
  const int32_t* ForcedExperts(int layer, const Pass& pass);
  // out[r] = the numbers[r]-th of some rows; num_cols values each.
  void Gather(const Buffer& rows, absl::Span<const int32_t> numbers, Matrix out) const;
  void RmsNorm(const Buffer& weight, ConstMatrix rows, Matrix out) const;

  StepParts parts_;
  StepOptions options_;
  AttentionLayer attention_;
  std::unique_ptr<ShardOversight> oversight_;  // null for a dense model
  std::vector<MicroBatchScratch> scratch_;
  Replays replays_;
  int num_first_rows_ = 0;   // of the last Run: how many rows its first micro-batch had
  Buffer hidden_;            // [all scratch rows, hidden] the residual stream, f32; stays for Draft
  Buffer draft_hidden_;      // the same of the MTP module, if there is one
  Buffer draft_inputs_;      // [max_rows, 2 * hidden] of its first product
  Buffer normed_;            // [all scratch rows, hidden]
  Buffer addend_;            // [all scratch rows, hidden]
  Buffer head_rows_;         // [max_logit_rows, hidden]
  Buffer logits_;            // [max_logit_rows, vocab]
  Buffer logprobs_;          // [max_logit_rows, vocab]
  Buffer host_logprobs_;     // the same, pinned host
  Buffer first_logits_;      // [max_logit_rows] of id 0, pinned host
  Buffer forced_ids_;        // [max_rows, topk] for probes
  std::vector<float> seen_;  // by a probe
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_STEP_H_
