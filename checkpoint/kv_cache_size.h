// How many tokens the KV cache of a rank holds: the one answer for the router, which refuses what would
// never fit, and for the rank, which allocates.
//
//   KvCacheTokens(config, limits.kv_cache_bytes(), /*value_bytes=*/2, /*with_mtp=*/false)
//
// DeepSeek-V3 in bf16: 576 values * 2 B * 61 layers = 70,272 B per token, so 1 GiB holds 15,279 tokens:
// 238 whole blocks, 15,232 tokens.
#ifndef ORRERY_CHECKPOINT_KV_CACHE_SIZE_H_
#define ORRERY_CHECKPOINT_KV_CACHE_SIZE_H_

#include <cstdint>

#include "checkpoint/model_config.h"

namespace orrery {

// The cache is given out in blocks of this many tokens (kKvBlockTokens of the kernels).
inline constexpr int kKvCacheBlockTokens = 64;
inline constexpr int64_t kDefaultKvCacheTokens = 65536;

// Whole blocks that fit into `kv_cache_bytes`; 0 bytes mean the default. 0 if no block fits.
// value_bytes: 4 at f32 precision, 2 at bf16. with_mtp: the MTP module runs too and has a cache of
// its own.
int64_t KvCacheTokens(const ModelConfig& config, int64_t kv_cache_bytes, int value_bytes,
                      bool with_mtp);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_KV_CACHE_SIZE_H_
