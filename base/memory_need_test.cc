#include "base/memory_need.h"

#include <gtest/gtest.h>

namespace orrery {
namespace {

MemoryNeed Need(size_t kv_cache_bytes) {
  MemoryNeed need;
  need.Add({.name = "weights", .bytes = 9'600'000'000, .smaller_by = "ffn_weights"});
  need.Add({.name = "KV cache",
            .bytes = kv_cache_bytes,
            .detail = "8192 tokens",
            .smaller_by = "limits.kv_cache_bytes",
            .unit_bytes = 1'000'000});
  need.Add({.name = "the process", .bytes = 64'000'000});
  return need;
}

const MemoryRoom kRoom = {.bytes = 10'300'000'000, .text = "10.30 GB are free"};

TEST(MemoryNeed, IsTheSumOfItsParts) {
  EXPECT_EQ(MemoryNeed().total(), 0u);
  EXPECT_EQ(Need(1'000'000'000).total(), 10'664'000'000u);
  EXPECT_EQ(Need(50'000'000).ToString(),
            "weights 9.60 GB, KV cache 50.0 MB (8192 tokens), the process 64.0 MB");
}

TEST(MemoryNeed, FitsUpToTheLastByte) {
  EXPECT_TRUE(CheckFits("a", Need(636'000'000), kRoom).ok());
  EXPECT_FALSE(CheckFits("a", Need(636'000'001), kRoom).ok());
}

TEST(MemoryNeed, ThatDoesNotFitSaysWhatWould) {
  const absl::Status status = CheckFits("attention-0", Need(1'000'000'000), kRoom);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(std::string(status.message()),
            "attention-0 needs 10.66 GB: weights 9.60 GB, KV cache 1.00 GB (8192 tokens), the "
            "process 64.0 MB; 10.30 GB are free. limits.kv_cache_bytes of at most "
            "636000000 would fit; make smaller: weights by ffn_weights");
  const absl::Status hopeless =
      CheckFits("attention-0", Need(1'000'000), {.bytes = 9'000'000'000, .text = "little"});
  EXPECT_NE(std::string(hopeless.message()).find("no KV cache would fit beside the rest"),
            std::string::npos)
      << hopeless;
}

}  // namespace
}  // namespace orrery
