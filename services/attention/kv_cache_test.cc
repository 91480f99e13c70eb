#include "services/attention/kv_cache.h"

#include <set>
#include <utility>

#include "device/host/host_device.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

class KvCacheTest : public ::testing::Test {
 protected:
  KvCacheTest() {
    config_.num_layers = 3;
    config_.attention = ModelConfig::AttentionKind::kMla;
    config_.kv_lora_rank = 20;
    config_.qk_rope_head_dim = 6;
  }
  KvCache Make(int num_blocks, DType format = DType::kBf16) {
    auto cache = KvCache::Create(config_, format, num_blocks, device_.get());
    EXPECT_TRUE(cache.ok()) << cache.status();
    return *std::move(cache);
  }

  std::unique_ptr<Device> device_ = MakeHostDevice();
  ModelConfig config_;
};

TEST_F(KvCacheTest, EveryLayerHasItsOwnBlocksOfTheRowWidthInTheFormat) {
  for (const DType format : {DType::kBf16, DType::kF32}) {
    const KvCache cache = Make(5, format);
    std::set<const std::byte*> memory;
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      EXPECT_EQ(cache.layer(layer).num_blocks, 5);
      EXPECT_EQ(cache.layer(layer).row_width, 26);
      EXPECT_EQ(cache.layer(layer).format, format);
      memory.insert(cache.layer(layer).data);
    }
    EXPECT_EQ(memory.size(), 3u);
  }
}

TEST_F(KvCacheTest, ReservesWholeBlocksAndExtendsOnlyWhenTheLastIsFull) {
  KvCache cache = Make(4);
  std::vector<int32_t> ids;
  EXPECT_TRUE(cache.Reserve(0, ids));
  EXPECT_TRUE(ids.empty());
  EXPECT_TRUE(cache.Reserve(1, ids));
  EXPECT_EQ(ids.size(), 1u);
  const int32_t first = ids[0];
  EXPECT_TRUE(cache.Reserve(kKvBlockTokens, ids));
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_TRUE(cache.Reserve(kKvBlockTokens + 1, ids));
  EXPECT_EQ(ids.size(), 2u);
  EXPECT_EQ(ids[0], first);
  EXPECT_EQ(cache.num_free_blocks(), 2);
}

TEST_F(KvCacheTest, ReservingLessThanThereIsTakesAndGivesNothing) {
  KvCache cache = Make(4);
  std::vector<int32_t> ids;
  ASSERT_TRUE(cache.Reserve(3 * kKvBlockTokens, ids));
  EXPECT_TRUE(cache.Reserve(1, ids));
  EXPECT_EQ(ids.size(), 3u);
  EXPECT_EQ(cache.num_free_blocks(), 1);
}

TEST_F(KvCacheTest, AFullCacheSaysNoAndChangesNothing) {
  KvCache cache = Make(4);
  std::vector<int32_t> mine, other;
  ASSERT_TRUE(cache.Reserve(3 * kKvBlockTokens, mine));
  ASSERT_TRUE(cache.Reserve(1, other));
  const std::vector<int32_t> before = other;
  EXPECT_FALSE(cache.Reserve(kKvBlockTokens + 1, other));
  EXPECT_EQ(other, before);
  EXPECT_EQ(cache.num_free_blocks(), 0);
  EXPECT_TRUE(cache.Reserve(kKvBlockTokens, other));
}

// Two blocks are missing and one is free: the free one is not taken either.
TEST_F(KvCacheTest, WhatDoesNotFitWhollyIsNotTakenInPart) {
  KvCache cache = Make(2);
  std::vector<int32_t> mine, other;
  ASSERT_TRUE(cache.Reserve(1, mine));
  EXPECT_FALSE(cache.Reserve(2 * kKvBlockTokens, other));
  EXPECT_TRUE(other.empty());
  EXPECT_EQ(cache.num_free_blocks(), 1);
}

TEST_F(KvCacheTest, BlocksComeBackAndServeOthers) {
  KvCache cache = Make(3);
  std::vector<int32_t> ids;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(cache.Reserve(3 * kKvBlockTokens, ids));
    EXPECT_EQ(std::set<int32_t>(ids.begin(), ids.end()), (std::set<int32_t>{0, 1, 2}));
    cache.Release(ids);
    EXPECT_TRUE(ids.empty());
    EXPECT_EQ(cache.num_free_blocks(), 3);
  }
  cache.Release(ids);  // nothing to give back
  EXPECT_EQ(cache.num_free_blocks(), 3);
}

TEST_F(KvCacheTest, NoBlockIsEverInTwoHands) {
  constexpr int kNumBlocks = 16;
  KvCache cache = Make(kNumBlocks);
  std::vector<std::vector<int32_t>> sequences(5);
  for (int step = 0; step < 500; ++step) {
    std::vector<int32_t>& ids = sequences[step * 7 % sequences.size()];
    const int num_tokens = step * 131 % (6 * kKvBlockTokens);
    if (!cache.Reserve(num_tokens, ids)) cache.Release(ids);
    std::set<int32_t> used;
    size_t num_used = 0;
    for (const std::vector<int32_t>& held : sequences) {
      used.insert(held.begin(), held.end());
      num_used += held.size();
    }
    ASSERT_EQ(used.size(), num_used) << "step " << step;
    ASSERT_EQ(cache.num_free_blocks() + num_used, kNumBlocks) << "step " << step;
  }
}

}  // namespace
}  // namespace orrery
