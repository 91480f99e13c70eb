#include "services/attention/kv_cache.h"

#include "base/check.h"

namespace orrery {

absl::StatusOr<KvCache> KvCache::Create(const ModelConfig& config, DType format, int num_blocks,
                                        Device* device) {
  KvCache cache;
  cache.num_blocks_ = num_blocks;
  const int width = config.kv_row_width();
  const size_t layer_bytes =
      static_cast<size_t>(num_blocks) * kKvBlockTokens * width * DTypeBytes(format);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    ASSIGN_OR_RETURN(Buffer memory, device->Allocate(layer_bytes, MemoryKind::kDevice));
    cache.layers_.push_back({.format = format,
                             .data = memory.as<std::byte>(),
                             .num_blocks = num_blocks,
                             .row_width = width});
    cache.memory_.push_back(std::move(memory));
  }
  // Lowest ids are taken first.
  for (int id = num_blocks - 1; id >= 0; --id) cache.free_.push_back(id);
  return cache;
}

bool KvCache::Reserve(int num_tokens, std::vector<int32_t>& block_ids) {
  const size_t needed = BlocksFor(num_tokens);
  if (needed <= block_ids.size()) return true;
  if (needed - block_ids.size() > free_.size()) return false;
  while (block_ids.size() < needed) {
    block_ids.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void KvCache::Release(std::vector<int32_t>& block_ids) {
  free_.insert(free_.end(), block_ids.rbegin(), block_ids.rend());
  block_ids.clear();
  ORRERY_CHECK(static_cast<int>(free_.size()) <= num_blocks_)
      << free_.size() << " free blocks of " << num_blocks_;
}

}  // namespace orrery
