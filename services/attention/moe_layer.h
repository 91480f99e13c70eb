// The feed-forward half of a MoE layer: gate, rows out to the shards, shared expert meanwhile, rows
// back, weighted sum.
//
// What a shard does not answer, or too late, another one is asked for; recovery.h says when and whom.
// Which shard answers never changes a bit. A batch that nobody wants any more ends the wait within
// moments, whatever the shards do, and they drop its rows. Between the rows' way out and back the step computes
// another micro-batch, if there is one, with a MoeLayer of its own.
//
// Audits: of many visits of a row to an expert, one is asked for twice on purpose, of two holders where there
// are two, and the layer goes on when both answers are there and equal. So hardware that errs in silence shows
// though nobody is ever late. Answers that differ, here or anywhere, go to court at once (court.h).
#ifndef ORRERY_SERVICES_ATTENTION_MOE_LAYER_H_
#define ORRERY_SERVICES_ATTENTION_MOE_LAYER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "device/device.h"
#include "exchange/exchange.h"
#include "kernels/kernels.h"
#include "services/attention/batch.h"
#include "services/attention/expert_directory.h"
#include "services/attention/model.h"
#include "services/attention/rank_metrics.h"
#include "services/attention/recovery.h"
#include "services/attention/second_answers.h"
#include "services/attention/shard_oversight.h"

namespace orrery {

// Scratch and verbs for the MoE layers of one model, for one micro-batch. Belongs to one step.
class MoeLayer {
 public:
  // exchange and directory are null for a dense model, which never runs a MoE layer, and where only
  // memory is counted; oversight for a dense model.
  struct Parts {
    Device* device = nullptr;
    RankExchange* exchange = nullptr;
    ExpertDirectory* directory = nullptr;
    ShardOversight* oversight = nullptr;
    RankMetrics* metrics = nullptr;  // may be null
  };
  static absl::StatusOr<MoeLayer> Create(const ModelConfig& config, const Numerics& numerics,
                                         const Parts& parts, int max_rows);

  // out = shared(normed) + sum of weighted experts(normed), [num_rows, hidden_size] both, is Choose, SendRows,
  // AwaitResults and Combine, with the shared expert, and whatever else there is to do, between the rows' way out and back.
  // num_rows: that of the batch, or of its shape.

  // Queues the choice of experts, and the rows as they will travel. forced_ids [num_rows, topk], in
  // memory of the device, instead of the gate's choice; may be null.
  void Choose(const MoeWeights& weights, ConstMatrix normed, const int32_t* forced_ids,
              Kernels& kernels);
  // Waits for what is queued, the one time in a layer, and sends the rows. The batch stays until they are back.
  // ABORTED when a shard was convicted of wrong answers (ShardOversight::Review); errors of the stream.
  absl::Status SendRows(int layer, const Batch& batch, Stream& stream);
  // Waits for their results. UNAVAILABLE (layer, experts, how long) when no holder answered in time, which is
  // the batch's expert_timeout, of which time to compute takes nothing (see recovery.h); CANCELLED when the batch was abandoned while
  // the layer waited; ABORTED as above.
  absl::Status AwaitResults(int layer, const Batch& batch);
  // Rows that are out are not waited for: something else has failed. Else without effect.
  void GiveUp();
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

  struct OpenAudit {
    Flight flight;
    absl::Time late_at;
  };

  // moe_layer.cc: the rows' way out and back.

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
  // One row more than needed, of which the answer is not waited for.
  void AskUnwaited(int layer, const Batch& batch, int peer, const DispatchEntry& entry);
  SecondAnswers::Question QuestionOf(int layer, PeerEntries asked) const;
  // By peer: frames can reach it, and it is not barred.
  std::vector<bool> Connected() const;
  absl::StatusOr<Ticket> Dispatch(int layer, const Batch& batch, const PeerEntries& ask);
  absl::Span<std::byte> results() const { return {results_.as<std::byte>(), results_.num_bytes()}; }

  // moe_audit.cc: visits that are asked for twice, and answers that differ.

  // Which of the layer's visits are asked for twice.
  void ChooseAudits();
  // Asks for them a second time.
  void AskAuditors(int layer, const Batch& batch);
  // Whom to ask beside the one that was asked first: that one if there is nobody else, or kNoPeer.
  int PickAuditor(int layer, const DispatchEntry& entry, const std::vector<bool>& connected) const;
  // Waits for the second answers and compares them; asks others for what was lost, or is late. A visit goes
  // without where nobody is left who is there and answers in time.
  absl::Status CollectAudits(int layer, const Batch& batch);
  void LandAudits(int layer);
  void Compare(int layer, const DispatchEntry& entry, int peer);

  const ModelConfig* config_ = nullptr;
  Numerics numerics_;
  GateParams gate_;
  RankExchange* exchange_ = nullptr;
  ExpertDirectory* directory_ = nullptr;
  ShardOversight* oversight_ = nullptr;
  RankMetrics* metrics_ = nullptr;
  size_t row_bytes_ = 0;
  size_t result_bytes_ = 0;
  Buffer logits_;                       // [max_rows, num_experts]
  Buffer expert_ids_;                   // [max_rows, topk] i32, pinned host
  Buffer weights_;                      // [max_rows, topk]
  Buffer rows_;                         // [max_rows] encoded rows, pinned host
  Buffer results_;                      // [max_rows * topk] encoded results, pinned host
  Buffer expert_rows_;                  // [max_rows * topk, hidden]
  Buffer sum_;                          // [max_rows, hidden]
  std::vector<DispatchEntry> entries_;  // [num_rows * topk]
  absl::Time sent_at_;
  std::vector<Flight> flights_;
  std::vector<OpenAudit> audits_;
  std::vector<int> drawn_;               // of entries_
  std::vector<DispatchEntry> to_audit_;  // not compared yet
  std::unique_ptr<Recovery> recovery_;   // null for a dense model
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_MOE_LAYER_H_
