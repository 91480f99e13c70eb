// The feed-forward half of a MoE layer: gate, rows out to the shards, shared expert meanwhile, rows
// back, weighted sum.
//
// What a shard does not answer, or too late, another one is asked for; recovery.h says when and whom.
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
#include "kernels/kernels.h"
#include "services/attention/batch.h"
#include "services/attention/expert_directory.h"
#include "services/attention/model.h"
#include "services/attention/recovery.h"
#include "services/attention/second_answers.h"
#include "services/attention/shard_health.h"

namespace orrery {

// Scratch and verbs for the MoE layers of one model. Belongs to one step.
class MoeLayer {
 public:
  // exchange and directory are null for a dense model, which never runs a MoE layer, and where only
  // memory is counted.
  static absl::StatusOr<MoeLayer> Create(const ModelConfig& config, const Numerics& numerics,
                                         int max_rows, Device* device, RankExchange* exchange,
                                         ExpertDirectory* directory, const HedgeOptions& hedge);

  // out = shared(normed) + sum of weighted experts(normed), [num_rows, hidden_size] both, is these
  // three, with the shared expert between the rows' way out and back. num_rows: that of the batch, or
  // of its shape.

  // Queues the choice of experts, and the rows as they will travel. forced_ids [num_rows, topk], in
  // memory of the device, instead of the gate's choice; may be null.
  void Choose(const MoeWeights& weights, ConstMatrix normed, const int32_t* forced_ids,
              Kernels& kernels);
  // Waits for what is queued, the one time in a layer, sends the rows, does `meanwhile`, and waits for
  // the results. UNAVAILABLE (layer, experts, how long) when no holder answered in time, which is the
  // batch's expert_timeout (see recovery.h); CANCELLED when the batch was abandoned while the layer waited;
  // those of the stream and of `meanwhile`.
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
  // An ask that is out; its ticket's slot is its id in recovery_.
  struct Flight {
    Ticket ticket;
    PeerEntries asked;
  };

  // Sends the rows on their way.
  absl::Status Ask(int layer, const Batch& batch);
  // Asks for what recovery_ wants asked, now.
  absl::Status Send(int layer, const Batch& batch);
  // Takes answers and asks again until all results are there.
  absl::Status Collect(int layer, const Batch& batch);
  // Until an answer comes, or recovery_ may have something new to say.
  absl::Status Wait(int layer, const Batch& batch);
  // Takes what has come.
  void Land(int layer);
  // The answer of a flight of which others have answered a part.
  CombineReport LandSecond(int layer, const Flight& flight);
  // What is still out is not waited for: given up if the layer failed, else compared when it comes. And
  // shards are asked that the next layers may need.
  void EndFlights(int layer, const Batch& batch, const absl::Status& status);
  void ProbeSpared(int layer, const Batch& batch);
  void AskSuccessors(int layer, const Batch& batch);
  // One visit in many is asked for once more, of a holder in turn, so that hardware that errs in silence
  // shows though nobody is ever late.
  void Audit(int layer, const Batch& batch);
  // One row more than needed, of which the answer is not waited for.
  void AskUnwaited(int layer, const Batch& batch, int peer, const DispatchEntry& entry);
  SecondAnswers::Question QuestionOf(int layer, PeerEntries asked) const;
  std::vector<bool> Connected() const;
  absl::StatusOr<Ticket> Dispatch(int layer, const Batch& batch, const PeerEntries& ask);
  // All of results_ or second_results_.
  static absl::Span<std::byte> Results(const Buffer& buffer);

  const ModelConfig* config_ = nullptr;
  Numerics numerics_;
  GateParams gate_;
  RankExchange* exchange_ = nullptr;
  ExpertDirectory* directory_ = nullptr;
  size_t row_bytes_ = 0;
  size_t result_bytes_ = 0;
  Buffer logits_;          // [max_rows, num_experts]
  Buffer expert_ids_;      // [max_rows, topk] i32, pinned host
  Buffer weights_;         // [max_rows, topk]
  Buffer rows_;            // [max_rows] encoded rows, pinned host
  Buffer results_;         // [max_rows * topk] encoded results, pinned host
  Buffer expert_rows_;     // [max_rows * topk, hidden]
  Buffer sum_;             // [max_rows, hidden]
  Buffer second_results_;  // [max_rows * topk] encoded, of those who came second; pinned host
  std::vector<DispatchEntry> entries_;  // [num_rows * topk]
  std::vector<Flight> flights_;
  int64_t num_entries_ = 0;  // asked for, of all layers
  // Null for a dense model.
  std::unique_ptr<ShardHealth> health_;
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<SecondAnswers> seconds_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_MOE_LAYER_H_
