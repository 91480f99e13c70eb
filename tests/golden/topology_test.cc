// Same bits, always: one request through every topology, transport and instruction set, on shapes
// that divide by nothing.
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"
#include "tests/golden/random_checkpoint.h"
#include "tools/check/report.h"
#include "tools/check/trace.h"
#include "tools/local_cluster.h"

namespace orrery {
namespace {

std::vector<int32_t> SomeIds(int vocab, int count) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back((i * 37 + 11) % vocab);
  return ids;
}

Trace TraceOf(const LocalClusterOptions& options, int rank = 0) {
  auto cluster = LocalCluster::Create(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  if (!cluster.ok()) return {};
  TraceRequest request;
  request.ids = SomeIds((*cluster)->config().vocab_size, 75);  // two blocks of the cache
  request.num_prefill = 60;
  request.chunk_rows = 60;
  if (options.with_mtp) {
    request.mtp_ids.assign(request.ids.begin() + 1, request.ids.end());
    request.num_chained_drafts = 2;
  }
  auto trace = RunTrace((*cluster)->parts(rank), request);
  EXPECT_TRUE(trace.ok()) << trace.status();
  return trace.ok() ? *std::move(trace) : Trace{};
}

// Shapes far from the goldens': 24 experts in 3 groups, odd widths, one expert per token, more
// shards than experts. All but one have an MTP module, or two.
std::vector<RandomShape> Shapes() {
  RandomShape softmax = {
      .q_lora = 17, .num_experts = 10, .num_groups = 1, .num_kept_groups = 1, .topk = 3};
  softmax.scoring = "softmax";
  softmax.method = "greedy";
  softmax.normalize = false;
  RandomShape few = {
      .num_heads = 1, .num_experts = 3, .num_groups = 1, .num_kept_groups = 1, .topk = 1};
  few.num_shared = 0;
  few.num_mtp_layers = 2;
  RandomShape wide = {.hidden = 257,
                      .num_heads = 19,
                      .num_experts = 24,
                      .topk = 6,
                      .num_shared = 2,
                      .moe_width = 129,
                      .num_mtp_layers = 1};
  return {RandomShape{.num_mtp_layers = 1}, softmax, few, wide};
}

class Topology : public testing::TestWithParam<std::tuple<int, Precision>> {
 protected:
  LocalClusterOptions Options() const {
    LocalClusterOptions options;
    const auto [shape, precision] = GetParam();
    options.model_dir = WriteRandomCheckpoint(Shapes()[shape], /*seed=*/shape + 1);
    options.with_mtp = Shapes()[shape].num_mtp_layers > 0;
    options.numerics.precision = precision;
    options.numerics.row_format = precision == Precision::kF32 ? RowFormat::kF32 : RowFormat::kBf16;
    return options;
  }
};

TEST_P(Topology, NeverChangesABit) {
  LocalClusterOptions options = Options();
  const Trace alone = TraceOf(options);
  for (const auto& [ranks, shards] : {std::pair{1, 2}, {2, 5}, {3, 4}}) {
    options.num_ranks = ranks;
    options.num_shards = shards;
    options.transport = LocalTransport::kLoopback;
    EXPECT_TRUE(TraceOf(options, ranks - 1) == alone)
        << ranks << " ranks, " << shards << " shards, loopback";
    options.transport = LocalTransport::kGrpc;
    EXPECT_TRUE(TraceOf(options, ranks - 1) == alone)
        << ranks << " ranks, " << shards << " shards, grpc";
  }
}

TEST_P(Topology, NoInstructionSetChangesABit) {
  LocalClusterOptions options = Options();
  const Trace best = TraceOf(options);
  for (const CpuVariant variant : {CpuVariant::kScalar, CpuVariant::kAvx2, CpuVariant::kAvx512,
                                   CpuVariant::kAvx512Bf16, CpuVariant::kAmx}) {
    if (!MakeKernels(Backend::kCpu, variant, nullptr).ok()) continue;  // not on this machine
    options.cpu_variant = variant;
    EXPECT_TRUE(TraceOf(options) == best) << "variant " << static_cast<int>(variant);
  }
}

TEST_P(Topology, Fp8RowsNeverChangeABitEither) {
  LocalClusterOptions options = Options();
  options.numerics.row_format = RowFormat::kFp8;
  const Trace alone = TraceOf(options);
  options.num_ranks = 2;
  options.num_shards = 5;
  options.transport = LocalTransport::kGrpc;
  EXPECT_TRUE(TraceOf(options, 1) == alone);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Topology,
                         testing::Combine(testing::Range(0, 4),
                                          testing::Values(Precision::kF32, Precision::kBf16)),
                         [](const testing::TestParamInfo<Topology::ParamType>& info) {
                           return absl::StrCat("shape", std::get<0>(info.param), "_",
                                               std::string(PrecisionName(std::get<1>(info.param))));
                         });

class Oracle : public testing::TestWithParam<int> {};

// f32 sums in another order than the f64 oracle's: errors of some 1e-6 relative to logits of size 1.
TEST_P(Oracle, AgreesWithF32ThroughRanksAndShards) {
  LocalClusterOptions options;
  options.model_dir = WriteRandomCheckpoint(Shapes()[GetParam()], /*seed=*/GetParam() + 1);
  options.with_mtp = Shapes()[GetParam()].num_mtp_layers > 0;
  options.numerics = {.precision = Precision::kF32, .row_format = RowFormat::kF32};
  options.num_ranks = 2;
  options.num_shards = 5;
  const Trace cpu = TraceOf(options, 1);
  options.backend = Backend::kReference;
  const Trace oracle = TraceOf(options);
  ASSERT_EQ(cpu.logits.size(), oracle.logits.size());
  ASSERT_FALSE(cpu.logits.empty());
  const ErrorStats error = CompareValues(cpu.logits, oracle.logits);
  EXPECT_LE(error.max, 1e-3);
  EXPECT_LE(error.rms, 1e-4);
  ASSERT_EQ(cpu.mtp_logits.size(), oracle.mtp_logits.size());
  EXPECT_EQ(cpu.mtp_logits.empty(), !options.with_mtp);
  EXPECT_LE(CompareValues(cpu.mtp_logits, oracle.mtp_logits).max, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Oracle, testing::Range(0, 4));

}  // namespace
}  // namespace orrery
