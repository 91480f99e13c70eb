#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/conformance/kernels_testing.h"
#include "tests/gpu_check/parts.h"
#include "tests/gpu_check/row_check.h"

namespace orrery {
namespace {

constexpr char kSuite[] = "Invariance";

// Of one layer of DeepSeek-R1; and the same made so small that a stand-in can do it.
struct Sizes {
  int max_rows = 256;
  int hidden = 7168;
  int expert_width = 2048;
  int num_experts = 256;
  int num_groups = 8;
  int topk = 8;
  int num_heads = 128;
  int key_dim = 576;
  int value_dim = 512;
  int context = 1500;  // more than one span
};
constexpr Sizes kSmall = {.max_rows = 5,
                          .hidden = 144,
                          .expert_width = 40,
                          .num_experts = 12,
                          .num_groups = 3,
                          .topk = 3,
                          .num_heads = 3,
                          .key_dim = 24,
                          .value_dim = 16,
                          .context = 80};

struct Format {
  const char* name;
  DType dtype;
  ProductFormat product;
  WeightFormat held = WeightFormat::kStored;
};
constexpr Format kFormats[] = {
    {"f32", DType::kF32, ProductFormat::kF32},
    {"bf16", DType::kBf16, ProductFormat::kBf16},
    {"fp8", DType::kFp8E4m3, ProductFormat::kBf16},
    {"w8a8", DType::kFp8E4m3, ProductFormat::kFp8},
    {"int8", DType::kBf16, ProductFormat::kBf16, WeightFormat::kInt8},
    {"int4", DType::kBf16, ProductFormat::kBf16, WeightFormat::kInt4},
};

absl::StatusOr<std::unique_ptr<Weight>> MakeWeight(const Gpu& gpu, const Format& format,
                                                   int num_outputs, int num_inputs, uint32_t seed) {
  const TestWeight weight(format.dtype, {num_outputs, num_inputs, 128, 128}, seed,
                          1.0f / std::sqrt(static_cast<float>(num_inputs)));
  return gpu.kernels->MakeWeight(weight.source(), format.product, format.held);
}

// Normally distributed rows on the GPU.
absl::StatusOr<Buffer> MakeRows(const Gpu& gpu, int64_t num_rows, int64_t num_cols, uint32_t seed) {
  return gpu.Upload(RandomValues(seed).Make(num_rows * num_cols));
}

absl::Status CheckProduct(const Sizes& sizes, const Format& format) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  const int num_outputs = sizes.expert_width;
  ASSIGN_OR_RETURN(const auto weight, MakeWeight(gpu, format, num_outputs, sizes.hidden, 1));
  ASSIGN_OR_RETURN(const Buffer x, MakeRows(gpu, sizes.max_rows, sizes.hidden, 2));
  const ConstMatrix rows(x.as<float>(), sizes.max_rows, sizes.hidden);
  EXPECT_TRUE(SameBitsForEveryNumberOfRows(
      gpu, {.num_rows = sizes.max_rows,
            .row_bytes = num_outputs * sizeof(float),
            .run = [&](int begin, int num, Buffer& out) {
              gpu.kernels->Matmul(rows.Rows(begin, num), *weight, /*bias=*/nullptr,
                                  {out.as<float>(), num, num_outputs});
            }}));
  return absl::OkStatus();
}

struct Expert {
  std::unique_ptr<Weight> gate, up, down;
};
absl::StatusOr<Expert> MakeExpert(const Gpu& gpu, const Sizes& sizes, const Format& format,
                                  uint32_t seed) {
  Expert expert;
  ASSIGN_OR_RETURN(expert.gate, MakeWeight(gpu, format, sizes.expert_width, sizes.hidden, seed));
  ASSIGN_OR_RETURN(expert.up, MakeWeight(gpu, format, sizes.expert_width, sizes.hidden, seed + 1));
  ASSIGN_OR_RETURN(expert.down,
                   MakeWeight(gpu, format, sizes.hidden, sizes.expert_width, seed + 2));
  return expert;
}

// The rows of one expert, while another one has as many rows as there are.
absl::Status CheckFeedForward(const Sizes& sizes, const Format& format) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  ASSIGN_OR_RETURN(const Expert expert, MakeExpert(gpu, sizes, format, 1));
  ASSIGN_OR_RETURN(const Expert other, MakeExpert(gpu, sizes, format, 4));
  ASSIGN_OR_RETURN(const Buffer x, MakeRows(gpu, sizes.max_rows, sizes.hidden, 2));
  ASSIGN_OR_RETURN(const Buffer other_out,
                   gpu.Allocate(sizes.max_rows * sizes.hidden * sizeof(float)));
  const ConstMatrix rows(x.as<float>(), sizes.max_rows, sizes.hidden);
  EXPECT_TRUE(SameBitsForEveryNumberOfRows(
      gpu, {.num_rows = sizes.max_rows,
            .row_bytes = sizes.hidden * sizeof(float),
            .run = [&](int begin, int num, Buffer& out) {
              const int num_others = sizes.max_rows - num;
              const FeedForwardArgs all[] = {
                  {rows.Rows(0, num_others), other.gate.get(), other.up.get(), other.down.get(),
                   Matrix(other_out.as<float>(), num_others, sizes.hidden)},
                  {rows.Rows(begin, num), expert.gate.get(), expert.up.get(), expert.down.get(),
                   Matrix(out.as<float>(), num, sizes.hidden)}};
              gpu.kernels->FeedForward(all);
            }}));
  return absl::OkStatus();
}

// What all attentions below share.
struct Cache {
  Buffer data;
  std::vector<int32_t> block_ids;
  AttendArgs args;  // without rows
};
absl::StatusOr<Cache> MakeCache(const Gpu& gpu, const Sizes& sizes, DType format) {
  Cache cache;
  const int num_blocks = (sizes.context + kKvBlockTokens - 1) / kKvBlockTokens;
  cache.block_ids.resize(num_blocks);
  std::iota(cache.block_ids.rbegin(), cache.block_ids.rend(), 0);
  ASSIGN_OR_RETURN(cache.data, gpu.Allocate(static_cast<size_t>(num_blocks) * kKvBlockTokens *
                                            sizes.key_dim * DTypeBytes(format)));
  const KvCacheView view = {format, cache.data.as<std::byte>(), num_blocks, sizes.key_dim};
  ASSIGN_OR_RETURN(const Buffer rows, MakeRows(gpu, sizes.context, sizes.key_dim, 3));
  gpu.kernels->AppendKv({rows.as<float>(), sizes.context, sizes.key_dim}, view, cache.block_ids,
                        /*first_position=*/0);
  RETURN_IF_ERROR(gpu.stream->Synchronize());
  cache.args.num_heads = sizes.num_heads;
  cache.args.key_dim = sizes.key_dim;
  cache.args.value_dim = sizes.value_dim;
  cache.args.scale = 1.0f / std::sqrt(static_cast<float>(sizes.key_dim));
  cache.args.cache = view;
  cache.args.block_ids = cache.block_ids;
  return cache;
}

// As of a prompt: rows of one sequence, at the end of its context.
absl::Status CheckPrompt(const Sizes& sizes, DType format) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  ASSIGN_OR_RETURN(const Cache cache, MakeCache(gpu, sizes, format));
  const int64_t q_width = static_cast<int64_t>(sizes.num_heads) * sizes.key_dim;
  const int64_t out_width = static_cast<int64_t>(sizes.num_heads) * sizes.value_dim;
  ASSIGN_OR_RETURN(const Buffer q, MakeRows(gpu, sizes.max_rows, q_width, 2));
  const ConstMatrix queries(q.as<float>(), sizes.max_rows, q_width);
  EXPECT_TRUE(SameBitsForEveryNumberOfRows(gpu, {.num_rows = sizes.max_rows,
                                                 .row_bytes = out_width * sizeof(float),
                                                 .run = [&](int begin, int num, Buffer& out) {
                                                   AttendArgs args = cache.args;
                                                   args.q = queries.Rows(begin, num);
                                                   args.first_position =
                                                       sizes.context - sizes.max_rows + begin;
                                                   args.out =
                                                       Matrix(out.as<float>(), num, out_width);
                                                   gpu.kernels->Attend(args);
                                                 }}));
  return absl::OkStatus();
}

// As of answers: one row each of sequences of all lengths.
absl::Status CheckAnswers(const Sizes& sizes, DType format) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  ASSIGN_OR_RETURN(const Cache cache, MakeCache(gpu, sizes, format));
  const int64_t q_width = static_cast<int64_t>(sizes.num_heads) * sizes.key_dim;
  const int64_t out_width = static_cast<int64_t>(sizes.num_heads) * sizes.value_dim;
  ASSIGN_OR_RETURN(const Buffer q, MakeRows(gpu, sizes.max_rows, q_width, 2));
  const ConstMatrix queries(q.as<float>(), sizes.max_rows, q_width);
  EXPECT_TRUE(SameBitsForEveryNumberOfRows(
      gpu, {.num_rows = sizes.max_rows,
            .row_bytes = out_width * sizeof(float),
            .run = [&](int begin, int num, Buffer& out) {
              const Matrix results(out.as<float>(), num, out_width);
              std::vector<AttendArgs> all(num, cache.args);
              for (int i = 0; i < num; ++i) {
                const int row = begin + i;
                all[i].q = queries.Rows(row, 1);
                all[i].first_position = (row + 1) * (sizes.context - 1) / sizes.max_rows;
                all[i].out = results.Rows(i, 1);
              }
              gpu.kernels->Attend(all);
            }}));
  return absl::OkStatus();
}

// The chosen experts, and behind them their weights: of each row by itself, so that a row's results lie together.
absl::Status CheckGate(const Sizes& sizes) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  ASSIGN_OR_RETURN(const Buffer x, MakeRows(gpu, sizes.max_rows, sizes.num_experts, 2));
  ASSIGN_OR_RETURN(const Buffer bias, MakeRows(gpu, 1, sizes.num_experts, 3));
  const size_t row_bytes = sizes.topk * sizeof(int32_t);
  ASSIGN_OR_RETURN(const Buffer unused, gpu.Allocate(sizes.max_rows * row_bytes));
  const ConstMatrix logits(x.as<float>(), sizes.max_rows, sizes.num_experts);
  GateParams params;
  params.num_experts = sizes.num_experts;
  params.num_groups = sizes.num_groups;
  params.num_kept_groups = sizes.num_groups / 2 + 1;
  params.topk = sizes.topk;
  params.normalize = true;
  params.bias = bias.as<float>();
  for (const bool weights : {false, true}) {
    EXPECT_TRUE(SameBitsForEveryNumberOfRows(
        gpu, {.num_rows = sizes.max_rows,
              .row_bytes = row_bytes,
              .run =
                  [&](int begin, int num, Buffer& out) {
                    gpu.kernels->Gate(logits.Rows(begin, num), params, /*forced_ids=*/nullptr,
                                      (weights ? unused : out).as<int32_t>(),
                                      (weights ? out : unused).as<float>());
                  }}))
        << (weights ? "weights" : "ids");
  }
  return absl::OkStatus();
}

absl::Status CheckNorm(const Sizes& sizes) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  ASSIGN_OR_RETURN(const Buffer x, MakeRows(gpu, sizes.max_rows, sizes.hidden, 2));
  ASSIGN_OR_RETURN(const Buffer weight, MakeRows(gpu, 1, sizes.hidden, 3));
  const ConstMatrix rows(x.as<float>(), sizes.max_rows, sizes.hidden);
  EXPECT_TRUE(SameBitsForEveryNumberOfRows(gpu, {.num_rows = sizes.max_rows,
                                                 .row_bytes = sizes.hidden * sizeof(float),
                                                 .run = [&](int begin, int num, Buffer& out) {
                                                   gpu.kernels->RmsNorm(
                                                       rows.Rows(begin, num), weight.as<float>(),
                                                       1e-6f, {out.as<float>(), num, sizes.hidden});
                                                 }}));
  return absl::OkStatus();
}

absl::Status CheckEncoding(const Sizes& sizes, RowFormat format) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  ASSIGN_OR_RETURN(const Buffer x, MakeRows(gpu, sizes.max_rows, sizes.hidden, 2));
  const ConstMatrix rows(x.as<float>(), sizes.max_rows, sizes.hidden);
  EXPECT_TRUE(SameBitsForEveryNumberOfRows(
      gpu, {.num_rows = sizes.max_rows,
            .row_bytes = EncodedRowBytes(format, sizes.hidden),
            .run = [&](int begin, int num, Buffer& out) {
              gpu.kernels->EncodeRows(rows.Rows(begin, num), format, out.as<std::byte>());
            }}));
  return absl::OkStatus();
}

}  // namespace

void RegisterInvariance(const GpuCheckOptions& options) {
  const Sizes sizes = options.is_small ? kSmall : Sizes();
  const auto add = [](const std::string& name, std::function<absl::Status()> check) {
    RegisterTest(kSuite, name, [check = std::move(check)] {
      const absl::Status status = check();
      EXPECT_TRUE(status.ok()) << status;
    });
  };
  for (const Format& format : kFormats) {
    const std::string name = format.name;
    add("Product_" + name, [=] { return CheckProduct(sizes, format); });
    add("FeedForward_" + name, [=] { return CheckFeedForward(sizes, format); });
  }
  for (const DType format : {DType::kBf16, DType::kF32}) {
    const std::string name(DTypeName(format));
    add("Prompt_" + name, [=] { return CheckPrompt(sizes, format); });
    add("Answers_" + name, [=] { return CheckAnswers(sizes, format); });
  }
  add("Gate", [=] { return CheckGate(sizes); });
  add("Norm", [=] { return CheckNorm(sizes); });
  add("Encoding_bf16", [=] { return CheckEncoding(sizes, RowFormat::kBf16); });
  add("Encoding_fp8", [=] { return CheckEncoding(sizes, RowFormat::kFp8); });
}

}  // namespace orrery
