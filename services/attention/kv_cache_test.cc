#include "services/attention/kv_cache.h"

#include <cstring>
#include <set>
#include <utility>

#include "device/host/host_device.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

class KvCacheTest : public ::testing::Test {
 protected:
  KvCacheTest() {
    model_.config.num_layers = 3;
    model_.config.attention = ModelConfig::AttentionKind::kMla;
    model_.config.kv_lora_rank = 20;
    model_.config.qk_rope_head_dim = 6;
  }
  KvCache Make(int num_blocks) {
    auto cache = KvCache::Create(model_, num_blocks, device_.get());
    EXPECT_TRUE(cache.ok()) << cache.status();
    return *std::move(cache);
  }

  std::unique_ptr<Device> device_ = MakeHostDevice();
  Model model_;
};

TEST_F(KvCacheTest, EveryLayerHasItsOwnBlocksOfTheRowWidthInTheFormat) {
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    model_.numerics.precision = precision;
    const KvCache cache = Make(5);
    std::set<const std::byte*> memory;
    for (int layer = 0; layer < model_.config.num_layers; ++layer) {
      EXPECT_EQ(cache.layer(layer).num_blocks, 5);
      EXPECT_EQ(cache.layer(layer).row_width, 26);
      EXPECT_EQ(cache.layer(layer).format, model_.numerics.kv_format());
      memory.insert(cache.layer(layer).data);
    }
    EXPECT_EQ(memory.size(), 3u);
  }
}

TEST_F(KvCacheTest, TheMtpModuleHasALayerBehindThoseOfTheModel) {
  const KvBlockFormat without = KvCache::FormatFor(model_);
  model_.mtp.emplace();
  const KvBlockFormat with = KvCache::FormatFor(model_);
  EXPECT_EQ(without.num_layers, 3);
  EXPECT_EQ(with.num_layers, 4);
  EXPECT_EQ(with.LayerBytes(), without.LayerBytes());
  EXPECT_EQ(Make(2).layer(3).row_width, 26);
}

TEST_F(KvCacheTest, ABlockTakesWhatTheSizeOfTheCacheWasReckonedWith) {
  for (const bool with_mtp : {false, true}) {
    if (with_mtp) model_.mtp.emplace();
    for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
      model_.numerics.precision = precision;
      const KvBlockFormat format = KvCache::FormatFor(model_);
      const int value_bytes = static_cast<int>(DTypeBytes(format.dtype));
      EXPECT_EQ(static_cast<int64_t>(format.LayerBytes()) * format.num_layers,
                kKvBlockTokens * KvBytesPerToken(model_.config, value_bytes, with_mtp));
    }
  }
}

TEST_F(KvCacheTest, ABlockIsCopiedInEveryLayerAndNothingElseIs) {
  const KvCache cache = Make(3);
  const size_t block_bytes = KvCache::FormatFor(model_).LayerBytes();
  for (int layer = 0; layer < 3; ++layer) {
    for (int block = 0; block < 3; ++block) {
      std::memset(cache.layer(layer).data + block * block_bytes, 10 * layer + block, block_bytes);
    }
  }
  cache.CopyBlock(/*from=*/2, /*to=*/0, *device_->MakeStream());
  for (int layer = 0; layer < 3; ++layer) {
    for (int block = 0; block < 3; ++block) {
      const auto expected = static_cast<std::byte>(10 * layer + (block == 0 ? 2 : block));
      EXPECT_EQ(cache.layer(layer).data[block * block_bytes], expected);
      EXPECT_EQ(cache.layer(layer).data[(block + 1) * block_bytes - 1], expected);
    }
  }
}

TEST_F(KvCacheTest, MoreThanTheMachineHasIsRefusedWithTheBytes) {
  const auto cache = KvCache::Create(model_, 1 << 30, device_.get());
  EXPECT_EQ(cache.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace orrery
