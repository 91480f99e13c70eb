// A result row depends on its own input row only: alone or in any batch, every implementation gives
// the same bits. (Attention by chunks is in attention_test.cc.)

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

constexpr int kNumRows = 71;

class Independence : public KernelsConformance {
 protected:
  // Runs an operation on all rows, then on each row alone and on rows 1..6, and compares.
  template <typename Operation>
  void Check(int width_in, int width_out, Operation operation) {
    TestMatrix x(kNumRows, width_in, RandomValues(3).Make(kNumRows * width_in));
    auto run = [&](int begin, int num) {
      TestMatrix out(num, width_out);
      operation(x.view().Rows(begin, num), out.view());
      return out.Values();
    };
    const std::vector<float> all = run(0, kNumRows);
    auto part = [&](int begin, int num) {
      return std::vector<float>(all.begin() + begin * width_out,
                                all.begin() + (begin + num) * width_out);
    };
    for (int r = 0; r < kNumRows; ++r) ASSERT_TRUE(SameBits(run(r, 1), part(r, 1))) << "row " << r;
    for (int num = 2; num <= 6; ++num) ASSERT_TRUE(SameBits(run(1, num), part(1, num))) << num;
  }

  std::unique_ptr<Weight> Make(DType dtype, int num_outputs, int num_inputs, ProductFormat format) {
    return *kernels_->MakeWeight(TestWeight(dtype, {num_outputs, num_inputs}, 5).source(), format);
  }
};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Independence);

TEST_P(Independence, OfMatmul) {
  for (DType dtype : {DType::kF32, DType::kBf16, DType::kFp8E4m3}) {
    for (ProductFormat format : {ProductFormat::kF32, ProductFormat::kBf16}) {
      const std::unique_ptr<Weight> weight = Make(dtype, 90, 77, format);
      Check(77, 90, [&](Matrix x, Matrix out) { kernels_->Matmul(x, *weight, nullptr, out); });
    }
  }
}

// Rows that come together are summed in chunks of inputs; products that are large are shared by
// threads.
TEST_P(Independence, OfMatmulWithLongRows) {
  for (DType dtype : {DType::kF32, DType::kBf16, DType::kFp8E4m3}) {
    for (WeightFormat held : {WeightFormat::kStored, WeightFormat::kInt8, WeightFormat::kInt4}) {
      const TestWeight source(dtype, {150, 2100, 32, 96}, 5);
      const auto weight = *kernels_->MakeWeight(source.source(), ProductFormat::kBf16, held);
      Check(2100, 150, [&](Matrix x, Matrix out) { kernels_->Matmul(x, *weight, nullptr, out); });
    }
  }
}

// Several at once are the same as one after the other.
TEST_P(Independence, OfFeedForwards) {
  std::vector<std::unique_ptr<Weight>> weights;
  std::vector<FeedForwardArgs> all;
  std::vector<TestMatrix> inputs, together, alone;
  for (const int num_rows : {3, 0, 70, 1, 300}) {
    inputs.emplace_back(num_rows, 130, RandomValues(num_rows).Make(num_rows * 130));
    together.emplace_back(num_rows, 130);
    alone.emplace_back(num_rows, 130);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const DType dtype = i % 2 == 0 ? DType::kBf16 : DType::kFp8E4m3;
    for (const auto& [num_outputs, num_inputs] : {std::pair(90, 130), {90, 130}, {130, 90}}) {
      weights.push_back(Make(dtype, num_outputs, num_inputs, ProductFormat::kBf16));
    }
    const auto* last = &weights.back();
    all.push_back(
        {inputs[i].view(), last[-2].get(), last[-1].get(), last[0].get(), together[i].view()});
  }
  kernels_->FeedForward(all);
  for (size_t i = 0; i < all.size(); ++i) {
    kernels_->FeedForward(all[i].x, *all[i].gate, *all[i].up, *all[i].down, alone[i].view());
    EXPECT_TRUE(SameBits(together[i].Values(), alone[i].Values())) << i;
  }
}

TEST_P(Independence, OfFeedForward) {
  const std::unique_ptr<Weight> gate = Make(DType::kBf16, 50, 33, ProductFormat::kBf16);
  const std::unique_ptr<Weight> up = Make(DType::kBf16, 50, 33, ProductFormat::kBf16);
  const std::unique_ptr<Weight> down = Make(DType::kBf16, 33, 50, ProductFormat::kBf16);
  Check(33, 33, [&](Matrix x, Matrix out) { kernels_->FeedForward(x, *gate, *up, *down, out); });
}

TEST_P(Independence, OfNormAndSoftmax) {
  const std::vector<float> weight(65, 1.5f);
  Check(65, 65, [&](Matrix x, Matrix out) { kernels_->RmsNorm(x, weight.data(), 1e-6f, out); });
  Check(65, 65, [&](Matrix x, Matrix out) { kernels_->LogSoftmax(x, out); });
}

// Rows long enough that threads share them.
TEST_P(Independence, OfLongRows) {
  const std::vector<float> weight(2100, 1.5f);
  Check(2100, 2100, [&](Matrix x, Matrix out) {
    kernels_->RmsNorm(x, weight.data(), 1e-6f, out);
    kernels_->Add(x, out);
  });
  Check(2100, 2100, [&](Matrix x, Matrix out) { kernels_->LogSoftmax(x, out); });
  for (const RowFormat format : {RowFormat::kBf16, RowFormat::kFp8}) {
    Check(2100, 2100, [&](Matrix x, Matrix out) {
      std::vector<std::byte> encoded(x.num_rows * EncodedRowBytes(format, 2100));
      kernels_->EncodeRows(x, format, encoded.data());
      kernels_->DecodeRows(encoded.data(), format, out);
    });
  }
}

TEST_P(Independence, OfGate) {
  GateParams params;
  params.num_experts = 24;
  params.num_groups = 3;
  params.num_kept_groups = 2;
  params.topk = 4;
  params.normalize = true;
  Check(24, 4, [&](Matrix x, Matrix out) {
    std::vector<int32_t> ids(x.num_rows * 4);
    std::vector<float> weights(x.num_rows * 4);
    kernels_->Gate(x, params, nullptr, ids.data(), weights.data());
    for (int64_t r = 0; r < x.num_rows; ++r) {
      std::copy_n(weights.data() + r * 4, 4, out.row(r));
    }
  });
}

// Of several sequences at once, and of heads, of which threads may share those of one row.
TEST_P(Independence, OfAttention) {
  constexpr int kNumHeads = 40, kKeyDim = 96, kValueDim = 64, kNumTokens = 700;
  constexpr int kNumBlocks = (kNumTokens + kKvBlockTokens - 1) / kKvBlockTokens;
  TestMatrix rows(kNumTokens, kKeyDim, RandomValues(3).Make(kNumTokens * kKeyDim));
  TestMatrix q(3, kNumHeads * kKeyDim, RandomValues(4).Make(3 * kNumHeads * kKeyDim));
  std::vector<int32_t> block_ids;
  for (int b = 0; b < kNumBlocks; ++b) block_ids.push_back(b);
  std::vector<std::byte> memory(kNumBlocks * kKvBlockTokens * kKeyDim * sizeof(uint16_t));
  const KvCacheView cache = {DType::kBf16, memory.data(), kNumBlocks, kKeyDim};
  kernels_->AppendKv(rows.view(), cache, block_ids, 0);
  TestMatrix together(3, kNumHeads * kValueDim);
  auto args = [&](int row, int first_head, int num_heads, Matrix out) {
    return AttendArgs{.q = q.view().Rows(row, 1).Columns(first_head * kKeyDim, num_heads * kKeyDim),
                      .num_heads = num_heads,
                      .key_dim = kKeyDim,
                      .value_dim = kValueDim,
                      .scale = 0.1f,
                      .cache = cache,
                      .block_ids = block_ids,
                      .first_position = kNumTokens - 1 - 100 * row,
                      .out = out};
  };
  std::vector<AttendArgs> all;
  for (int row = 0; row < 3; ++row) {
    all.push_back(args(row, 0, kNumHeads, together.view().Rows(row, 1)));
  }
  kernels_->Attend(all);
  TestMatrix alone(3, kNumHeads * kValueDim);
  for (int row = 0; row < 3; ++row)
    kernels_->Attend(args(row, 0, kNumHeads, alone.view().Rows(row, 1)));
  EXPECT_TRUE(SameBits(together.Values(), alone.Values()));
  for (int row = 0; row < 3; ++row) {
    for (int head = 0; head < kNumHeads; ++head) {
      const Matrix out = alone.view().Rows(row, 1).Columns(head * kValueDim, kValueDim);
      kernels_->Attend(args(row, head, 1, out));
    }
  }
  EXPECT_TRUE(SameBits(together.Values(), alone.Values()));
}

}  // namespace
}  // namespace orrery
