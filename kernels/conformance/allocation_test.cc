// No kernel allocates once it has seen its sizes: calls of everything, twice, with one thread and
// with three, and the second time is counted.

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "base/allocation_counter.h"
#include "kernels/conformance/host_implementations.h"
#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

class Allocations : public KernelsConformance {
 protected:
  // Often enough that every thread gets a part of it, whoever is fast; counted from the second on.
  void ExpectNone(const char* name, const std::function<void()>& call) {
    constexpr int kNumCalls = 8;
    call();
    const int64_t before = NumAllocations();
    ASSERT_GT(before, 0);  // it does count
    for (int i = 1; i < kNumCalls; ++i) call();
    EXPECT_EQ(NumAllocations(), before) << name;
  }
};
INSTANTIATE_TEST_SUITE_P(All, Allocations, testing::ValuesIn(X86Variants()),
                         [](const testing::TestParamInfo<Implementation>& info) {
                           return info.param.name;
                         });

// Rows that are worth sharing among threads.
constexpr int kNumRows = 70;
constexpr int kWidth = 2100;

TEST_P(Allocations, AreNotMadeByProducts) {
  std::vector<std::unique_ptr<Weight>> weights;
  for (const auto& [num_outputs, num_inputs] : {std::pair(150, 300), {150, 300}, {300, 150}}) {
    for (const DType dtype : {DType::kBf16, DType::kFp8E4m3}) {
      weights.push_back(*kernels_->MakeWeight(
          TestWeight(dtype, {num_outputs, num_inputs}, 5).source(), ProductFormat::kBf16));
    }
  }
  TestMatrix x(kNumRows, 300, RandomValues(1).Make(kNumRows * 300));
  TestMatrix out(kNumRows, 300), product(kNumRows, 150);
  const std::vector<FeedForwardArgs> all = {
      {x.view().Rows(0, 30), weights[0].get(), weights[2].get(), weights[4].get(),
       out.view().Rows(0, 30)},
      {x.view().Rows(30, 40), weights[1].get(), weights[3].get(), weights[5].get(),
       out.view().Rows(30, 40)}};
  ExpectNone("FeedForward", [&] { kernels_->FeedForward(all); });
  ExpectNone("Matmul", [&] { kernels_->Matmul(x.view(), *weights[0], nullptr, product.view()); });
  const auto heads = absl::MakeConstSpan(weights).subspan(0, 4);
  TestMatrix wide(kNumRows, 600);
  ExpectNone("MatmulHeads", [&] { kernels_->MatmulHeads(x.view(), 0, heads, wide.view(), 150); });
}

// A shard sees a row today and a prompt tomorrow.
TEST_P(Allocations, AreNotMadeByLargerProductsWithinWhatWasReserved) {
  const auto weight = [this](int num_outputs, int num_inputs) {
    return *kernels_->MakeWeight(TestWeight(DType::kFp8E4m3, {num_outputs, num_inputs}, 5).source(),
                                 ProductFormat::kBf16);
  };
  const std::unique_ptr<Weight> gate = weight(150, 300), up = weight(150, 300),
                                down = weight(300, 150);
  TestMatrix x(kNumRows, 300, RandomValues(1).Make(kNumRows * 300));
  TestMatrix out(kNumRows, 300);
  ASSERT_EQ(kernels_->ReserveScratch(
                {.products = {.num_rows = 2 * kNumRows, .num_weights = 2, .num_inputs = 300},
                 .down_products = {.num_rows = kNumRows, .num_weights = 1, .num_inputs = 150}}),
            absl::OkStatus());
  const auto run = [&](int num_rows) {
    const FeedForwardArgs args = {x.view().Rows(0, num_rows), gate.get(), up.get(), down.get(),
                                  out.view().Rows(0, num_rows)};
    kernels_->FeedForward({&args, 1});
  };
  run(1);
  const int64_t before = NumAllocations();
  run(kNumRows);
  EXPECT_EQ(NumAllocations(), before);
}

TEST_P(Allocations, AreNotMadeByRowKernels) {
  TestMatrix x(kNumRows, kWidth, RandomValues(1).Make(kNumRows * kWidth));
  TestMatrix out(kNumRows, kWidth);
  const std::vector<float> weight(kWidth, 1.5f);
  ExpectNone("RmsNorm", [&] { kernels_->RmsNorm(x.view(), weight.data(), 1e-6f, out.view()); });
  ExpectNone("Add", [&] { kernels_->Add(x.view(), out.view()); });
  ExpectNone("Copy", [&] { kernels_->Copy(x.view(), out.view()); });
  ExpectNone("LogSoftmax", [&] { kernels_->LogSoftmax(x.view(), out.view()); });
  ExpectNone("WeightedSum",
             [&] { kernels_->WeightedSum(x.view(), weight.data(), 2, out.view().Rows(0, 35)); });
  std::vector<float> cos(kNumRows * 4), sin(kNumRows * 4);
  MakeRopeTable(std::vector<double>{1.0, 0.3, 0.1, 0.02}, kNumRows, cos.data(), sin.data());
  const RopeTable table = {cos.data(), sin.data(), kNumRows, 8};
  ExpectNone("Rope",
             [&] { kernels_->Rope(out.view(), 250, 8, 0, RopePairing::kHalfSplit, table); });
  const std::vector<int32_t> ids(kNumRows, 1);
  ExpectNone("Embed", [&] { kernels_->Embed(DType::kF32, x.view().data, ids, out.view()); });
  for (const RowFormat format : {RowFormat::kF32, RowFormat::kBf16, RowFormat::kFp8}) {
    std::vector<std::byte> encoded(kNumRows * EncodedRowBytes(format, kWidth));
    ExpectNone("EncodeRows", [&] { kernels_->EncodeRows(x.view(), format, encoded.data()); });
    ExpectNone("DecodeRows", [&] { kernels_->DecodeRows(encoded.data(), format, out.view()); });
  }
}

TEST_P(Allocations, AreNotMadeByTheGate) {
  constexpr int kNumExperts = 256;
  GateParams params;
  params.num_experts = kNumExperts;
  params.num_groups = 8;
  params.num_kept_groups = 4;
  params.topk = 8;
  constexpr int kManyRows = 300;
  TestMatrix logits(kManyRows, kNumExperts, RandomValues(2).Make(kManyRows * kNumExperts));
  std::vector<int32_t> ids(kManyRows * params.topk);
  std::vector<float> weights(ids.size());
  ExpectNone("Gate",
             [&] { kernels_->Gate(logits.view(), params, nullptr, ids.data(), weights.data()); });
}

TEST_P(Allocations, AreNotMadeByAttention) {
  constexpr int kNumHeads = 20, kKeyDim = 100, kValueDim = 80, kNumTokens = 300;
  constexpr int kNumBlocks = (kNumTokens + kKvBlockTokens - 1) / kKvBlockTokens;
  TestMatrix rows(kNumTokens, kKeyDim, RandomValues(3).Make(kNumTokens * kKeyDim));
  TestMatrix q(kNumTokens, kNumHeads * kKeyDim,
               RandomValues(4).Make(kNumTokens * kNumHeads * kKeyDim));
  TestMatrix out(kNumTokens, kNumHeads * kValueDim);
  std::vector<int32_t> block_ids;
  for (int b = 0; b < kNumBlocks; ++b) block_ids.push_back(b);
  std::vector<std::byte> memory(kNumBlocks * kKvBlockTokens * kKeyDim * sizeof(uint16_t));
  const KvCacheView cache = {DType::kBf16, memory.data(), kNumBlocks, kKeyDim};
  ExpectNone("AppendKv", [&] { kernels_->AppendKv(rows.view(), cache, block_ids, 0); });
  auto args = [&](int first_row, int num_rows) {
    return AttendArgs{.q = q.view().Rows(first_row, num_rows),
                      .num_heads = kNumHeads,
                      .key_dim = kKeyDim,
                      .value_dim = kValueDim,
                      .cache = cache,
                      .block_ids = block_ids,
                      .first_position = first_row,
                      .out = out.view().Rows(first_row, num_rows)};
  };
  const std::vector<AttendArgs> all = {args(0, 100), args(299, 1), args(280, 4)};
  ExpectNone("Attend", [&] { kernels_->Attend(all); });
}

}  // namespace
}  // namespace orrery
