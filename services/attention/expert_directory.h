// Who holds which expert, as this rank sees it: written by the shard watch, read by the engine's
// loop.
//
//   directory.SetHeld(2, held);                       // watch: shard 2 matches and advertises this
//   directory.PickHolders(layer, usable, holders);    // loop: one holder per expert, or kNoPeer
//
// Thread-safe.
#ifndef ORRERY_SERVICES_ATTENTION_EXPERT_DIRECTORY_H_
#define ORRERY_SERVICES_ATTENTION_EXPERT_DIRECTORY_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "checkpoint/model_config.h"
#include "placement/placement.h"

namespace orrery {

class ExpertDirectory {
 public:
  // with_mtp: the MTP module runs too, and its experts need holders like all others.
  ExpertDirectory(const ModelConfig& config, int num_shards, bool with_mtp);

  // Replaces what a shard is known to hold; empty when it is gone or does not match.
  void SetHeld(int shard, absl::Span<const LayerExperts> held);
  // The shard answered that it does not hold this one.
  void Remove(int shard, ExpertKey key);

  // holders[e] = a shard s with usable[s] that holds expert e of the layer, or kNoPeer;
  // [num_experts].
  void PickHolders(int layer, const std::vector<bool>& usable, std::vector<int>& holders) const;
  // One such shard for one expert, or kNoPeer.
  int Pick(ExpertKey key, const std::vector<bool>& usable) const;
  // "layers 1-4: experts 4-7 have no holder", empty when every expert of what runs has one.
  std::string Missing() const;

  // Counts changes; WaitForChange returns when it differs from `seen` or the deadline passes.
  uint64_t version() const;
  void WaitForChange(uint64_t seen, absl::Time deadline) const;

 private:
  const int num_experts_;
  const std::vector<int> moe_layers_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  HolderTable holders_;   // guarded by mutex_
  uint64_t version_ = 0;  // guarded by mutex_
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_EXPERT_DIRECTORY_H_
