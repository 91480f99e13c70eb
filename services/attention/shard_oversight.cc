#include "services/attention/shard_oversight.h"

#include "absl/time/clock.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<ShardOversight>> ShardOversight::Create(Device* device,
                                                                       RankExchange* exchange,
                                                                       ExpertDirectory* directory,
                                                                       const Options& options) {
  std::unique_ptr<ShardOversight> oversight(new ShardOversight(options.audit_one_in));
  const size_t result_bytes = options.row_sizes.result_bytes;
  ASSIGN_OR_RETURN(oversight->second_results_,
                   device->Allocate(options.max_results * result_bytes, MemoryKind::kPinnedHost));
  if (exchange == nullptr) return oversight;
  oversight->health_ = std::make_unique<ShardHealth>(exchange->num_peers(), options.hedge);
  oversight->memory_ = std::make_unique<ShardMemory>(exchange->num_peers());
  oversight->seconds_ = std::make_unique<SecondAnswers>(
      exchange, directory, oversight->health_.get(), options.row_sizes);
  oversight->court_ = std::make_unique<Court>(exchange, directory, result_bytes);
  return oversight;
}

absl::Status ShardOversight::Review(const Batch& batch) {
  if (seconds_->empty()) return absl::OkStatus();
  seconds_->Look(absl::Now(), second_results());
  return HoldCourt(batch);
}

absl::Status ShardOversight::HoldCourt(const Batch& batch) {
  bool was_convicted = false;
  for (const Dispute& dispute : seconds_->TakeDisputes()) {
    was_convicted = court_->Try(dispute, batch) || was_convicted;
  }
  if (!was_convicted) return absl::OkStatus();
  ++num_convictions_;
  return absl::AbortedError("a shard that answered wrongly was quarantined");
}

}  // namespace orrery
