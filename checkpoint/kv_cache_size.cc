#include "checkpoint/kv_cache_size.h"

namespace orrery {

int64_t KvCacheTokens(const ModelConfig& config, int64_t kv_cache_bytes, int value_bytes,
                      bool with_mtp) {
  if (kv_cache_bytes == 0) return kDefaultKvCacheTokens;
  const int64_t num_tokens = kv_cache_bytes / KvBytesPerToken(config, value_bytes, with_mtp);
  return num_tokens - num_tokens % kKvCacheBlockTokens;
}

}  // namespace orrery
