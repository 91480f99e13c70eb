// The feed-forward half of a MoE layer: gate, rows out to the shards, shared expert meanwhile, rows
// back, weighted sum.
//
// An entry that a shard does not answer (gone, not held, loading, refused) is sent to another
// holder; with none left the layer waits until one appears, at most for the batch's expert_timeout. A
// shard that stays silent is given up after a quarter of that if others hold what it was asked for,
// and from then on asked only for what nobody else holds, until it answers that or some time has
// passed: so it costs its quarter once and not in every layer.
// Which shard answers never changes a bit. A batch that nobody wants any more ends the wait within
// moments, whatever the shards do, and they drop its rows.
#ifndef ORRERY_SERVICES_ATTENTION_MOE_LAYER_H_
#define ORRERY_SERVICES_ATTENTION_MOE_LAYER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "device/device.h"
#include "exchange/exchange.h"
#include "exchange/plan.h"
#include "kernels/kernels.h"
#include "services/attention/batch.h"
#include "services/attention/expert_directory.h"
#include "services/attention/model.h"

namespace orrery {

// Scratch and verbs for the MoE layers of one model. Belongs to one step.
class MoeLayer {
 public:
  // exchange and directory are null for a dense model, which never runs a MoE layer, and where only
  // memory is counted.
  static absl::StatusOr<MoeLayer> Create(const ModelConfig& config, const Numerics& numerics,
                                         int max_rows, Device* device, RankExchange* exchange,
                                         ExpertDirectory* directory);

  // out = shared(normed) + sum of weighted experts(normed), [num_rows, hidden_size] both, is these
  // three, with the shared expert between the rows' way out and back. num_rows: that of the batch, or
  // of its shape.

  // Queues the choice of experts, and the rows as they will travel. forced_ids [num_rows, topk], in
  // memory of the device, instead of the gate's choice; may be null.
  void Choose(const MoeWeights& weights, ConstMatrix normed, const int32_t* forced_ids,
              Kernels& kernels);
  // Waits for what is queued, the one time in a layer, sends the rows, does `meanwhile`, and waits for
  // the results. UNAVAILABLE (layer, experts, how long) when no holder answered within the batch's
  // expert_timeout; CANCELLED when the batch was abandoned while the layer waited for answers or
  // holders; those of the stream and of `meanwhile`.
  absl::Status Exchange(int layer, const Batch& batch, Stream& stream,
                        absl::FunctionRef<absl::Status()> meanwhile);
  // Queues the weighted sum of the results, added to out where the shared expert left its own.
  void Combine(const MoeWeights& weights, Kernels& kernels, Matrix out);

  // Of the last Choose, once its work is done; [num_rows, topk] by ascending expert id.
  absl::Span<const int32_t> expert_ids(int num_rows) const {
    return {expert_ids_.as<int32_t>(),
            static_cast<size_t>(num_rows) * config_->num_experts_per_token};
  }
  // In memory of the device.
  ConstMatrix chosen_weights(int num_rows) const {
    return ConstMatrix(weights_.as<float>(), num_rows, config_->num_experts_per_token);
  }

 private:
  // Sends what `plan` says; its ticket is combined by Collect.
  absl::StatusOr<Ticket> Send(int layer, const Batch& batch, const DispatchPlan& plan);
  // Combines, and sends again what came back undone, until all results are there.
  absl::Status Collect(int layer, const Batch& batch, Plan plan, Ticket ticket);
  // Waits until the ticket is answered, at most until `deadline`. CANCELLED, with the ticket given
  // up, as soon as nobody wants the batch any more.
  absl::Status AwaitAnswers(int layer, const Batch& batch, Ticket ticket, absl::Time deadline);
  // Waits until a shard comes or goes, or a moment. UNAVAILABLE when expert_timeout has passed since
  // `begin`.
  absl::Status WaitForHolders(int layer, const Batch& batch,
                              absl::Span<const DispatchEntry> entries, uint64_t seen_version,
                              absl::Time begin);
  // Whether a shard that is likely to answer, beside the one that is asked, holds each expert.
  bool HaveOtherHolders(int layer, const DispatchPlan& plan) const;
  // Marks what the answers to `asked` and their lack taught us, and returns the entries to be planned
  // anew.
  std::vector<DispatchEntry> Learn(int layer, const DispatchPlan& asked,
                                   const CombineReport& report, absl::Duration expert_timeout);
  Plan PlanAgain(int layer, absl::Span<const DispatchEntry> entries);
  // Fills holders_: of the shards that hold an expert, those that fell silent come last.
  void PickHolders(int layer);
  // Shards worth asking now: connected, and not failing in this layer. with_silent: also those that
  // fell silent.
  std::vector<bool> Usable(bool with_silent) const;

  const ModelConfig* config_ = nullptr;
  Numerics numerics_;
  GateParams gate_;
  RankExchange* exchange_ = nullptr;
  ExpertDirectory* directory_ = nullptr;
  size_t row_bytes_ = 0;
  size_t result_bytes_ = 0;
  Buffer logits_;              // [max_rows, num_experts]
  Buffer expert_ids_;          // [max_rows, topk] i32, pinned host
  Buffer weights_;             // [max_rows, topk]
  Buffer rows_;                // [max_rows] encoded rows, pinned host
  Buffer results_;             // [max_rows * topk] encoded results, pinned host
  Buffer expert_rows_;         // [max_rows * topk, hidden]
  Buffer sum_;                 // [max_rows, hidden]
  std::vector<int> holders_;   // [num_experts]
  std::vector<bool> avoided_;  // [num_peers] failed since the layer began
  // [num_peers] Until then it is asked only for what nobody else holds.
  std::vector<absl::Time> silent_until_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_MOE_LAYER_H_
