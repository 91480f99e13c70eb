// One pass of a batch through all layers: the spine of the attention service.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Step> step, Step::Create(parts, options));
//   RETURN_IF_ERROR(step->Run(batch, cache, /*probe=*/nullptr));
//   absl::Span<const float> logprobs = step->logprobs(0);     // of batch.logit_rows[0]
//
// The rows' keys and values stand in the cache afterwards. A step that fails may be run again: it
// appends the same values to the same places.
//
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_STEP_H_
#define ORRERY_SERVICES_ATTENTION_STEP_H_

#include <memory>

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

namespace orrery {

// What a step computes with. All outlive it. exchange and directory are null for a dense model.
struct StepParts {
  const Model* model = nullptr;
  Kernels* kernels = nullptr;
  Device* device = nullptr;
  Stream* stream = nullptr;
  RankExchange* exchange = nullptr;
  ExpertDirectory* directory = nullptr;
};

struct StepOptions {
  int max_rows = 256;
  int max_logit_rows = 1;
};

class Step {
 public:
  static absl::StatusOr<std::unique_ptr<Step>> Create(const StepParts& parts,
                                                      const StepOptions& options);

  // Errors: those of MoeLayer::Run, and of the stream. probe may be null.
  absl::Status Run(const Batch& batch, const KvCache& cache, StepProbe* probe);

  // Log-probabilities [vocab_size] of the index-th of batch.logit_rows, in host memory, until the
  // next Run.
  absl::Span<const float> logprobs(int index) const;

  const Model& model() const { return *parts_.model; }
  const StepOptions& options() const { return options_; }

 private:
  explicit Step(const StepParts& parts, const StepOptions& options)
      : parts_(parts), options_(options) {}
  absl::Status FeedForward(int layer, const Batch& batch, StepProbe* probe, Matrix hidden);
  absl::Status Head(const Batch& batch, StepProbe* probe, ConstMatrix hidden);

  StepParts parts_;
  StepOptions options_;
  AttentionLayer attention_;
  MoeLayer moe_;
  Buffer hidden_;         // [max_rows, hidden] the residual stream, f32
  Buffer normed_;         // [max_rows, hidden]
  Buffer addend_;         // [max_rows, hidden]
  Buffer head_rows_;      // [max_logit_rows, hidden]
  Buffer logits_;         // [max_logit_rows, vocab]
  Buffer logprobs_;       // [max_logit_rows, vocab]
  Buffer host_logprobs_;  // the same, pinned host
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_STEP_H_
