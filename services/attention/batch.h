// What one step computes: consecutive rows of one or more sequences.
#ifndef ORRERY_SERVICES_ATTENTION_BATCH_H_
#define ORRERY_SERVICES_ATTENTION_BATCH_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/matrix.h"
#include "exchange/exchange.h"
#include "kernels/row_places.h"

namespace orrery {

// Prefill is a span with many rows, decode one with a single row: there is no second path.
struct Batch {
  std::vector<int32_t> ids;         // [num_rows] token ids
  std::vector<SequenceRows> spans;  // cover the rows in order
  std::vector<int32_t> logit_rows;  // rows whose log-probabilities are wanted, ascending
  // Its frames' way to the shards: bulk if the batch has prompt rows.
  Lane lane = Lane::kDecode;
  // How long each layer may wait for the holders of its experts; time to compute is not counted.
  absl::Duration expert_timeout;
  // Asked while a layer waits for answers or for a holder: true when nobody wants the step any
  // more. May be empty.
  std::function<bool()> abandoned;
  int num_rows() const { return static_cast<int>(ids.size()); }
};

// A pass of the MTP module, behind a step: each row joins the hidden state of one token with the
// next token's id, and predicts the one after that.
//
//   row: (h of position p - 1, id of position p) at position p  ->  log-probabilities of p + 1
//
// Keys and values of row p stand at position p of the module's own cache layer, so that they depend
// on ids up to p only, like everything else in a block. Position 0 has no row, and is not seen.
// (DeepSeek-V3 counts from the hidden state's position, p - 1; rotary positions are relative, so
// the result is the same.)
struct MtpBatch {
  // ids of the rows' tokens, spans (first_position at least 1), rows whose log-probabilities are
  // wanted, lane, expert_timeout, abandoned.
  Batch rows;
  // [num_rows] where each row's hidden state lies: a row of the last Run, or of the last Draft.
  std::vector<int32_t> hidden_rows;
  enum class Source { kStep, kDraft };  // kDraft: chained, the module's own output of before
  Source source = Source::kStep;
};

// Watches a step from outside, and may force the choice of experts: for comparisons with another
// implementation. Matrices are [num_rows, ...] in host memory, wherever the step computes, and valid
// during the call.
class StepProbe {
 public:
  virtual ~StepProbe() = default;
  virtual void OnAttention(int layer, ConstMatrix out) {}
  virtual void OnFeedForward(int layer, ConstMatrix out) {}
  virtual void OnHidden(int layer, ConstMatrix hidden) {}
  // expert_ids and weights [num_rows, topk], by ascending expert id.
  virtual void OnGate(int layer, absl::Span<const int32_t> expert_ids,
                      absl::Span<const float> weights) {}
  virtual void OnLogits(ConstMatrix logits) {}
  // [num_rows, topk] ascending, or null to leave the choice to the gate.
  virtual const int32_t* ForcedExperts(int layer) { return nullptr; }
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_BATCH_H_
