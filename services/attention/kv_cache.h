// The paged KV cache of one rank: blocks of kKvBlockTokens tokens, the same block ids in every
// layer.
//
//   ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(config, kv_format, num_blocks, device));
//   if (!cache.Reserve(num_tokens, block_ids)) ...    // full: nothing was taken
//   kernels.AppendKv(rows, cache.layer(3), block_ids, first_position);
//   cache.Release(block_ids);
//
// Bounded by num_blocks, allocated once at start. Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_KV_CACHE_H_
#define ORRERY_SERVICES_ATTENTION_KV_CACHE_H_

#include <cstdint>
#include <vector>

#include "base/dtypes.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
#include "kernels/kernels.h"

namespace orrery {

class KvCache {
 public:
  // RESOURCE_EXHAUSTED with the number of bytes when they cannot be had.
  static absl::StatusOr<KvCache> Create(const ModelConfig& config, DType format, int num_blocks,
                                        Device* device);

  static int BlocksFor(int num_tokens) {
    return (num_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  }

  // Extends block_ids so that num_tokens fit. False, with nothing changed, when too few blocks are
  // free.
  bool Reserve(int num_tokens, std::vector<int32_t>& block_ids);
  // Gives all blocks back and clears the list.
  void Release(std::vector<int32_t>& block_ids);

  const KvCacheView& layer(int index) const { return layers_[index]; }
  int num_blocks() const { return num_blocks_; }
  int num_free_blocks() const { return static_cast<int>(free_.size()); }

 private:
  int num_blocks_ = 0;
  std::vector<Buffer> memory_;  // one per layer
  std::vector<KvCacheView> layers_;
  std::vector<int32_t> free_;  // taken from the back
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_KV_CACHE_H_
