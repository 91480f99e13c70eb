#include "services/attention/expert_directory.h"

#include "model/moe_layers.h"

namespace orrery {

ExpertDirectory::ExpertDirectory(const ModelConfig& config, int num_shards, bool with_mtp)
    : num_experts_(config.num_experts),
      moe_layers_(MoeLayers(config, with_mtp)),
      holders_(num_shards) {}

void ExpertDirectory::SetHeld(int shard, absl::Span<const LayerExperts> held) {
  std::lock_guard lock(mutex_);
  holders_.SetHeld(shard, held);
  ++version_;
  changed_.notify_all();
}

void ExpertDirectory::Remove(int shard, ExpertKey key) {
  std::lock_guard lock(mutex_);
  holders_.Remove(shard, key);
  ++version_;
  changed_.notify_all();
}

void ExpertDirectory::PickHolders(int layer, const std::vector<bool>& usable,
                                  std::vector<int>& holders) const {
  std::lock_guard lock(mutex_);
  for (int expert = 0; expert < num_experts_; ++expert) {
    holders[expert] = holders_.Pick({.layer = layer, .expert = expert}, usable);
  }
}

int ExpertDirectory::Pick(ExpertKey key, const std::vector<bool>& usable) const {
  std::lock_guard lock(mutex_);
  return holders_.Pick(key, usable);
}

std::string ExpertDirectory::Missing() const {
  std::lock_guard lock(mutex_);
  const std::vector<bool> all(holders_.num_shards(), true);
  return DescribeMissing(holders_.MissingExperts(moe_layers_, num_experts_, all));
}

uint64_t ExpertDirectory::version() const {
  std::lock_guard lock(mutex_);
  return version_;
}

void ExpertDirectory::WaitForChange(uint64_t seen, absl::Time deadline) const {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, absl::ToChronoTime(deadline), [&] { return version_ != seen; });
}

}  // namespace orrery
