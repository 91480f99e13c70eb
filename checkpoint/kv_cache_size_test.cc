#include "checkpoint/kv_cache_size.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

// The cache-relevant numbers of DeepSeek-V3.
ModelConfig V3() {
  ModelConfig config;
  config.num_layers = 61;
  config.kv_lora_rank = 512;
  config.qk_rope_head_dim = 64;
  return config;
}

TEST(KvBytesPerToken, CountsEveryLayerAndTheMtpModuleAsOneMore) {
  EXPECT_EQ(KvBytesPerToken(V3(), 2, /*with_mtp=*/false), 70272);
  EXPECT_EQ(KvBytesPerToken(V3(), 4, /*with_mtp=*/false), 140544);
  EXPECT_EQ(KvBytesPerToken(V3(), 2, /*with_mtp=*/true), 71424);
}

TEST(KvBytesPerToken, CountsKeysAndValuesOfGroupedHeads) {
  ModelConfig config;
  config.attention = ModelConfig::AttentionKind::kGqa;
  config.num_layers = 3;
  config.num_kv_heads = 2;
  config.head_dim = 5;
  EXPECT_EQ(KvBytesPerToken(config, 2, /*with_mtp=*/false), 3 * 2 * 2 * 5 * 2);
}

TEST(KvCacheTokens, AreWholeBlocks) {
  const int64_t block_bytes = 64 * 70272;
  EXPECT_EQ(KvCacheTokens(V3(), 1 << 30, 2, false), 15232);
  EXPECT_EQ(KvCacheTokens(V3(), 3 * block_bytes, 2, false), 192);
  EXPECT_EQ(KvCacheTokens(V3(), 3 * block_bytes - 1, 2, false), 128);
  EXPECT_EQ(KvCacheTokens(V3(), 3 * block_bytes, 2, true), 128);
}

TEST(KvCacheTokens, HaveADefaultAndAreNoneWhenNoBlockFits) {
  EXPECT_EQ(KvCacheTokens(V3(), 0, 2, false), kDefaultKvCacheTokens);
  EXPECT_EQ(KvCacheTokens(V3(), 64 * 70272 - 1, 2, false), 0);
}

}  // namespace
}  // namespace orrery
