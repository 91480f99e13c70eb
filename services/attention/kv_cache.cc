#include "services/attention/kv_cache.h"

namespace orrery {

KvBlockFormat KvCache::FormatFor(const Model& model) {
  return {.dtype = model.numerics.kv_format(),
          .row_width = model.config.kv_row_width(),
          .num_layers = model.config.num_layers + (model.mtp.has_value() ? 1 : 0)};
}

absl::StatusOr<KvCache> KvCache::Create(const Model& model, int num_blocks, Device* device) {
  KvCache cache;
  cache.num_blocks_ = num_blocks;
  cache.format_ = FormatFor(model);
  for (int layer = 0; layer < cache.format_.num_layers; ++layer) {
    ASSIGN_OR_RETURN(Buffer memory, device->Allocate(num_blocks * cache.format_.LayerBytes(),
                                                     MemoryKind::kDevice));
    cache.layers_.push_back({.format = cache.format_.dtype,
                             .data = memory.as<std::byte>(),
                             .num_blocks = num_blocks,
                             .row_width = cache.format_.row_width});
    cache.memory_.push_back(std::move(memory));
  }
  return cache;
}

void KvCache::CopyBlock(int32_t from, int32_t to, Stream& stream) const {
  const size_t num_bytes = format_.LayerBytes();
  for (const KvCacheView& layer : layers_) {
    stream.CopyOnDevice(layer.data + to * num_bytes, layer.data + from * num_bytes, num_bytes);
  }
}

}  // namespace orrery
