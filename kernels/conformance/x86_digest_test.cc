// The bits of the x86 family are part of the numerics id: a client may rely on getting the same
// answer from a cluster that was built at another time, by another compiler, at another
// optimisation level. This test computes a digest of every operation on fixed inputs.
//
// A difference means that answers change. If that is intended, count up CpuKernels::family() and
// put the new digest here; a cluster will then refuse to mix members of the two.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/conformance/host_implementations.h"
#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

// FNV-1a, 64 bits.
class Digest {
 public:
  void Add(const void* data, size_t num_bytes) {
    for (size_t i = 0; i < num_bytes; ++i) {
      hash_ = (hash_ ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
    }
  }
  void Add(const std::vector<float>& values) { Add(values.data(), values.size() * sizeof(float)); }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

// Whole numbers over 2^23 in [-1, 1): the same on every system, as std::normal_distribution is not.
std::vector<float> Uniform(uint64_t seed, size_t num) {
  std::vector<float> values(num);
  uint64_t state = seed * 2654435761u + 1;
  for (float& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<float>(static_cast<int32_t>(state >> 40) - (1 << 23)) * 0x1p-23f;
  }
  return values;
}

class DigestOfX86 : public KernelsConformance {
 protected:
  std::unique_ptr<Weight> Make(int num_outputs, int num_inputs, ProductFormat format) {
    const std::vector<float> values = Uniform(num_outputs, num_outputs * num_inputs);
    const WeightSource source = {.dtype = DType::kF32,
                                 .data = values.data(),
                                 .num_outputs = num_outputs,
                                 .num_inputs = num_inputs};
    return *kernels_->MakeWeight(source, format);
  }
};
INSTANTIATE_TEST_SUITE_P(All, DigestOfX86, testing::ValuesIn(X86Variants()),
                         [](const testing::TestParamInfo<Implementation>& info) {
                           return info.param.name;
                         });

TEST_P(DigestOfX86, ProductsIsUnchanged) {
  Digest digest;
  for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
    TestMatrix x(5, 75, Uniform(1, 5 * 75));
    TestMatrix out(5, 75);
    const auto gate = Make(50, 75, format);
    const auto down = Make(75, 50, format);
    kernels_->FeedForward(x.view(), *gate, *gate, *down, out.view());
    digest.Add(out.Values());
  }
  EXPECT_EQ(digest.value(), 0x8c9c6f4c53ad4562u);
}

TEST_P(DigestOfX86, RowOperationsIsUnchanged) {
  Digest digest;
  const std::vector<float> values = Uniform(2, 4 * 150);
  TestMatrix x(4, 150, values);
  TestMatrix out(4, 150);
  kernels_->RmsNorm(x.view(), values.data(), 1e-6f, out.view());
  digest.Add(out.Values());
  kernels_->LogSoftmax(x.view(), out.view());
  digest.Add(out.Values());
  TestMatrix sum(1, 150);
  kernels_->WeightedSum(x.view(), values.data(), 4, sum.view());
  digest.Add(sum.Values());
  for (RowFormat format : {RowFormat::kF32, RowFormat::kBf16, RowFormat::kFp8}) {
    std::vector<std::byte> encoded(4 * EncodedRowBytes(format, 150));
    kernels_->EncodeRows(x.view(), format, encoded.data());
    digest.Add(encoded.data(), encoded.size());
  }
  EXPECT_EQ(digest.value(), 0xbe18db18f5c825a0u);
}

TEST_P(DigestOfX86, RopeIsUnchanged) {
  Digest digest;
  std::vector<float> cos(2000 * 3);
  std::vector<float> sin(2000 * 3);
  MakeRopeTable(std::vector<double>{1.0, 0.3, 97.0}, 2000, cos.data(), sin.data());
  digest.Add(cos);
  digest.Add(sin);
  TestMatrix x(40, 6, Uniform(3, 40 * 6));
  const RopeTable table = {cos.data(), sin.data(), 2000, 6};
  kernels_->Rope(x.view(), 1, 6, 1900, RopePairing::kInterleaved, table);
  digest.Add(x.Values());
  EXPECT_EQ(digest.value(), 0xb4b5f69a75689fb9u);
}

TEST_P(DigestOfX86, AttentionIsUnchanged) {
  Digest digest;
  const std::vector<int32_t> block_ids = {1, 0};
  TestMatrix rows(100, 48, Uniform(4, 100 * 48));
  TestMatrix q(100, 5 * 48, Uniform(5, 100 * 5 * 48));
  for (DType format : {DType::kF32, DType::kBf16}) {
    std::vector<std::byte> memory(2 * kKvBlockTokens * 48 * 4);
    const KvCacheView cache = {format, memory.data(), 2, 48};
    TestMatrix out(100, 5 * 32);
    kernels_->AppendKv(rows.view(), cache, block_ids, 0);
    kernels_->Attend({.q = q.view(),
                      .num_heads = 5,
                      .key_dim = 48,
                      .value_dim = 32,
                      .scale = 0.7f,
                      .cache = cache,
                      .block_ids = block_ids,
                      .out = out.view()});
    digest.Add(out.Values());
  }
  EXPECT_EQ(digest.value(), 0x29672e0c1e9487eeu);
}

TEST_P(DigestOfX86, GateIsUnchanged) {
  Digest digest;
  TestMatrix logits(30, 24, Uniform(6, 30 * 24));
  for (GateParams::Score score : {GateParams::Score::kSigmoid, GateParams::Score::kSoftmax}) {
    GateParams params;
    params.score = score;
    params.num_experts = 24;
    params.num_groups = 3;
    params.num_kept_groups = 2;
    params.topk = 4;
    params.normalize = score == GateParams::Score::kSigmoid;
    params.weight_scale = 2.5f;
    std::vector<int32_t> ids(30 * 4);
    std::vector<float> weights(30 * 4);
    kernels_->Gate(logits.view(), params, nullptr, ids.data(), weights.data());
    digest.Add(ids.data(), ids.size() * sizeof(int32_t));
    digest.Add(weights);
  }
  EXPECT_EQ(digest.value(), 0x1fac5531c047199bu);
}

}  // namespace
}  // namespace orrery
