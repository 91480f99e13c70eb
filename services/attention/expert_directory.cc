#include "services/attention/expert_directory.h"

namespace orrery {

ExpertDirectory::ExpertDirectory(const ModelConfig& config, int num_shards)
    : num_experts_(config.num_experts), holders_(num_shards) {
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (config.is_moe_layer(layer)) moe_layers_.push_back(layer);
  }
}

void ExpertDirectory::SetHeld(int shard, absl::Span<const LayerExperts> held) {
  absl::MutexLock lock(&mutex_);
  holders_.SetHeld(shard, held);
  ++version_;
}

void ExpertDirectory::Remove(int shard, ExpertKey key) {
  absl::MutexLock lock(&mutex_);
  holders_.Remove(shard, key);
  ++version_;
}

void ExpertDirectory::PickHolders(int layer, const std::vector<bool>& usable,
                                  std::vector<int>& holders) const {
  absl::MutexLock lock(&mutex_);
  for (int expert = 0; expert < num_experts_; ++expert) {
    holders[expert] = holders_.Pick({.layer = layer, .expert = expert}, usable);
  }
}

int ExpertDirectory::Pick(ExpertKey key, const std::vector<bool>& usable) const {
  absl::MutexLock lock(&mutex_);
  return holders_.Pick(key, usable);
}

std::string ExpertDirectory::Missing() const {
  absl::MutexLock lock(&mutex_);
  const std::vector<bool> all(holders_.num_shards(), true);
  return DescribeMissing(holders_.MissingExperts(moe_layers_, num_experts_, all));
}

uint64_t ExpertDirectory::version() const {
  absl::MutexLock lock(&mutex_);
  return version_;
}

void ExpertDirectory::WaitForChange(uint64_t seen, absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  const auto changed = [this, seen]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return version_ != seen; };
  mutex_.AwaitWithDeadline(absl::Condition(&changed), deadline);
}

}  // namespace orrery
