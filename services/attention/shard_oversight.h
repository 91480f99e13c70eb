// What a rank watches its shards with, whichever layer and micro-batch asks them: how fast they answer, who was
// there lately, answers that it has twice, and the court for those that differ.
//
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_SHARD_OVERSIGHT_H_
#define ORRERY_SERVICES_ATTENTION_SHARD_OVERSIGHT_H_

#include <cstddef>
#include <memory>

#include "absl/types/span.h"
#include "base/status.h"
#include "device/device.h"
#include "exchange/exchange.h"
#include "services/attention/audit_draw.h"
#include "services/attention/batch.h"
#include "services/attention/court.h"
#include "services/attention/expert_directory.h"
#include "services/attention/recovery.h"
#include "services/attention/second_answers.h"
#include "services/attention/shard_health.h"

namespace orrery {

class ShardOversight {
 public:
  struct Options {
    HedgeOptions hedge;
    int audit_one_in = 1;
    SecondAnswers::RowSizes row_sizes;
    int max_results = 0;  // of one layer of a step
  };
  // exchange and directory are null where only memory is counted. All outlive it.
  static absl::StatusOr<std::unique_ptr<ShardOversight>> Create(Device* device,
                                                                RankExchange* exchange,
                                                                ExpertDirectory* directory,
                                                                const Options& options);

  ShardHealth& health() { return *health_; }
  ShardMemory& memory() { return *memory_; }
  SecondAnswers& seconds() { return *seconds_; }
  AuditDraw& audit_draw() { return audit_draw_; }
  // Room for max_results results of those who came second; what is in it is nobody's from one call to the next.
  absl::Span<std::byte> second_results() {
    return {second_results_.as<std::byte>(), second_results_.num_bytes()};
  }

  // Compares what has come late. ABORTED when that convicts a shard of wrong answers: it may have given others
  // to this batch before, in earlier layers, so the batch is to be computed again, without it.
  absl::Status Review(const Batch& batch);
  // Tries the disputes that there are. ABORTED as above.
  absl::Status HoldCourt(const Batch& batch);
  // Shards convicted since the start.
  int num_convictions() const { return num_convictions_; }

 private:
  explicit ShardOversight(int audit_one_in) : audit_draw_(audit_one_in) {}

  AuditDraw audit_draw_;
  Buffer second_results_;  // pinned host
  int num_convictions_ = 0;
  // Null where only memory is counted.
  std::unique_ptr<ShardHealth> health_;
  std::unique_ptr<ShardMemory> memory_;
  std::unique_ptr<SecondAnswers> seconds_;
  std::unique_ptr<Court> court_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SHARD_OVERSIGHT_H_
