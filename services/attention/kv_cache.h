// The memory of the paged KV cache of one rank: blocks of kKvBlockTokens tokens, the same block ids in
// every layer. Which block belongs to whom is block_pool.h.
//
//   ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(model, num_blocks, device));
//   kernels.AppendKv(rows, cache.layer(3), block_ids, first_position);
//   cache.CopyBlock(from, to, stream);
//
//   layer 0:   [block 0 | block 1 | ... ]     a block of a layer: kKvBlockTokens rows of row_width values
//   layer 1:   [block 0 | block 1 | ... ]
//   MTP layer: [block 0 | block 1 | ... ]     behind the model's layers, if the module was loaded
//
// Everything in a block depends on the token ids up to its end and on nothing else, so a block can be
// shared, and could be handed to another rank: see KvBlockFormat.
//
// Allocated once at start. Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_KV_CACHE_H_
#define ORRERY_SERVICES_ATTENTION_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/dtypes.h"
#include "base/status.h"
#include "device/device.h"
#include "kernels/kernels.h"
#include "services/attention/model.h"

namespace orrery {

// The bytes of one block, as they would travel to another rank (which does not exist yet):
//
//   [header: kHeaderBytes, reserved][layer 0: LayerBytes()][layer 1] ... [last layer]
//
// The header has room for a version, the numerics id's hash, and the hash of the prefix that the block
// ends.
struct KvBlockFormat {
  static constexpr size_t kHeaderBytes = 64;
  DType dtype = DType::kBf16;
  int row_width = 0;
  int num_layers = 0;  // the MTP module's included

  size_t LayerBytes() const {
    return static_cast<size_t>(kKvBlockTokens) * row_width * DTypeBytes(dtype);
  }
};
static_assert(KvBlockFormat::kHeaderBytes % 64 == 0, "layers stay aligned to cache lines");

class KvCache {
 public:
  // RESOURCE_EXHAUSTED with the number of bytes when they cannot be had.
  static absl::StatusOr<KvCache> Create(const Model& model, int num_blocks, Device* device);

  static KvBlockFormat FormatFor(const Model& model);
  static int BlocksFor(int num_tokens) {
    return (num_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  }

  // Of the model's layers; the MTP module's has the index num_layers.
  const KvCacheView& layer(int index) const { return layers_[index]; }
  int num_blocks() const { return num_blocks_; }

  // All layers of a block into another.
  void CopyBlock(int32_t from, int32_t to, Stream& stream) const;

 private:
  int num_blocks_ = 0;
  KvBlockFormat format_;
  std::vector<Buffer> memory_;  // one per layer
  std::vector<KvCacheView> layers_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_KV_CACHE_H_
