// One step over many sequences, and the MTP module behind it: what a sequence gets does not depend on
// who else is in the batch.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_cluster.h"
#include "tests/golden/random_checkpoint.h"
#include "tools/check/trace.h"
#include "tools/eval/problems.h"
#include "tools/local_cluster.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;
using Logprobs = std::vector<float>;

constexpr int kMaxRows = 128;

// Rows of one sequence: ids[first_position, first_position + num_rows).
struct Part {
  int sequence = 0;
  int first_position = 0;
  int num_rows = 0;
  int num_cached_rows = 0;
};

// A rank with a step, a cache, and sequences whose blocks lie scattered in it.
class Bench {
 public:
  explicit Bench(std::vector<int> lengths, int min_micro_batch_rows = kMaxRows) {
    cluster_ = EngineCluster::Make({.model_dir = "tests/data/golden/mtp",
                                    .numerics = {.precision = Precision::kBf16},
                                    .with_mtp = true,
                                    .shards = {{0, 7}, {7, 16}}});
    cluster_->AnswerAll();
    const StepParts parts = cluster_->parts(0);
    step_ = *Step::Create(parts, {.max_rows = kMaxRows,
                                  .max_logit_rows = kMaxRows,
                                  .min_micro_batch_rows = min_micro_batch_rows});
    int num_blocks = 0;
    for (const int length : lengths) num_blocks += KvCache::BlocksFor(length);
    cache_ = *KvCache::Create(*parts.model, num_blocks, parts.device);
    for (const int length : lengths) {
      ids_.push_back(RandomIds(cluster_->config(), length, /*seed=*/ids_.size()));
      std::vector<int32_t>& blocks = block_ids_.emplace_back(KvCache::BlocksFor(length));
      for (int32_t& block : blocks) block = --num_blocks;  // last first
    }
  }

  // Of every row of the parts, in their order.
  std::vector<Logprobs> Run(const std::vector<Part>& parts) {
    const Batch batch = BatchOf(parts, 0);
    const absl::Status status = step_->Run(batch, cache_, nullptr);
    EXPECT_TRUE(status.ok()) << status;
    return Take(batch);
  }

  // Drafts behind rows of the last pass: row r of a part joins hidden_rows[...] with the id behind its
  // position.
  std::vector<Logprobs> Draft(const std::vector<Part>& parts, std::vector<int32_t> hidden_rows,
                              MtpBatch::Source source = MtpBatch::Source::kStep) {
    MtpBatch batch;
    batch.rows = BatchOf(parts, 1);
    batch.hidden_rows = std::move(hidden_rows);
    batch.source = source;
    const absl::Status status = step_->Draft(batch, cache_, nullptr);
    EXPECT_TRUE(status.ok()) << status;
    return Take(batch.rows);
  }

  // The bytes of a sequence's position in every layer, the module's included.
  std::vector<std::string> CacheRows(int sequence, int position) const {
    std::vector<std::string> rows;
    for (int layer = 0; layer <= cluster_->config().num_layers; ++layer) {
      rows.emplace_back(CacheRow(layer, sequence, position), RowBytes());
    }
    return rows;
  }
  void Overwrite(int layer, int sequence, int position) {
    std::memset(CacheRow(layer, sequence, position), 0x3c, RowBytes());
  }

 private:
  Batch BatchOf(const std::vector<Part>& parts, int shift) const {
    Batch batch;
    for (const Part& part : parts) {
      const auto begin = ids_[part.sequence].begin() + part.first_position + shift;
      batch.spans.push_back({.row_begin = batch.num_rows(),
                             .num_rows = part.num_rows,
                             .first_position = part.first_position + shift,
                             .num_cached_rows = part.num_cached_rows,
                             .block_ids = block_ids_[part.sequence]});
      batch.ids.insert(batch.ids.end(), begin, begin + part.num_rows);
    }
    batch.logit_rows.resize(batch.num_rows());
    std::iota(batch.logit_rows.begin(), batch.logit_rows.end(), 0);
    batch.expert_timeout = kPatience;
    return batch;
  }
  std::vector<Logprobs> Take(const Batch& batch) const {
    std::vector<Logprobs> all;
    for (int row = 0; row < batch.num_rows(); ++row) {
      const absl::Span<const float> logprobs = step_->logprobs(row);
      all.emplace_back(logprobs.begin(), logprobs.end());
    }
    return all;
  }
  size_t RowBytes() const { return cache_.layer(0).row_width * DTypeBytes(cache_.layer(0).format); }
  char* CacheRow(int layer, int sequence, int position) const {
    const size_t block = block_ids_[sequence][position / kKvBlockTokens];
    const size_t row = block * kKvBlockTokens + position % kKvBlockTokens;
    return reinterpret_cast<char*>(cache_.layer(layer).data) + row * RowBytes();
  }

  std::unique_ptr<EngineCluster> cluster_;
  std::unique_ptr<Step> step_;
  KvCache cache_;
  std::vector<std::vector<int32_t>> ids_;
  std::vector<std::vector<int32_t>> block_ids_;
};

// Three sequences, one of them longer than a block: their prompts, then one row of each.
TEST(StepTest, ASequenceGetsTheSameBitsAloneAndInABatch) {
  Bench alone({72, 11, 32});
  Bench together({72, 11, 32});
  const std::vector<Part> prompts = {{0, 0, 69}, {1, 0, 8}, {2, 0, 29}};
  const std::vector<Part> next = {{0, 69, 1}, {1, 8, 1}, {2, 29, 1}};
  std::vector<int32_t> rows(106);
  std::iota(rows.begin(), rows.end(), 0);

  std::vector<Logprobs> expected, expected_drafts, expected_next, expected_next_drafts;
  const auto append = [](std::vector<Logprobs> more, std::vector<Logprobs>& all) {
    std::move(more.begin(), more.end(), std::back_inserter(all));
  };
  for (size_t i = 0; i < prompts.size(); ++i) {
    append(alone.Run({prompts[i]}), expected);
    append(alone.Draft({prompts[i]}, {rows.begin(), rows.begin() + prompts[i].num_rows}),
           expected_drafts);
    append(alone.Run({next[i]}), expected_next);
    append(alone.Draft({next[i]}, {0}), expected_next_drafts);
  }
  EXPECT_EQ(together.Run(prompts), expected);
  EXPECT_EQ(together.Draft(prompts, rows), expected_drafts);
  EXPECT_EQ(together.Run(next), expected_next);
  EXPECT_EQ(together.Draft(next, {0, 1, 2}), expected_next_drafts);
}

// Sequences lie in one of the two or in both, some of their rows are cached already, and drafts take the hidden
// states of either.
TEST(StepTest, TwoMicroBatchesGiveTheSameBitsAsOne) {
  const std::vector<std::vector<Part>> batches = {
      {{0, 0, 69}, {1, 0, 8}, {2, 0, 29}},             // the first lies in both
      {{0, 67, 4, /*num_cached_rows=*/2}, {1, 8, 1}},  // so do its cached rows
      {{1, 9, 1}, {2, 29, 1}},                         // a row each
      {{0, 71, 1}},
  };
  Bench one({80, 12, 32});
  Bench two({80, 12, 32}, /*min_micro_batch_rows=*/1);
  for (const std::vector<Part>& parts : batches) {
    EXPECT_EQ(two.Run(parts), one.Run(parts));
    int num_rows = 0;
    for (const Part& part : parts) num_rows += part.num_rows;
    std::vector<int32_t> rows(num_rows);
    std::iota(rows.begin(), rows.end(), 0);
    EXPECT_EQ(two.Draft(parts, rows), one.Draft(parts, rows));
  }
  for (int position = 0; position < 72; ++position) {
    EXPECT_EQ(two.CacheRows(0, position), one.CacheRows(0, position)) << position;
  }
}

TEST(StepTest, DraftsTakeTheirHiddenRowsInAnyOrderAndMoreThanOnce) {
  Bench bench({40, 20});
  bench.Run({{0, 0, 20}, {1, 0, 10}});
  const std::vector<Logprobs> first = bench.Draft({{0, 0, 1}, {1, 0, 1}}, {0, 20});
  const std::vector<Logprobs> swapped = bench.Draft({{1, 0, 1}, {0, 0, 1}}, {20, 0});
  EXPECT_EQ(swapped[0], first[1]);
  EXPECT_EQ(swapped[1], first[0]);
  EXPECT_EQ(bench.Draft({{0, 0, 1}, {1, 0, 1}, {0, 0, 1}}, {0, 20, 0})[2], first[0]);
  EXPECT_NE(bench.Draft({{0, 0, 1}}, {20})[0], first[0]);
}

TEST(StepTest, AChainedDraftContinuesFromTheModulesOwnOutput) {
  using Source = MtpBatch::Source;
  Bench bench({40, 20});
  bench.Run({{0, 0, 9}, {1, 0, 9}});
  std::vector<int32_t> rows(18);
  std::iota(rows.begin(), rows.end(), 0);
  bench.Draft({{0, 0, 9}, {1, 0, 9}}, rows);
  const std::vector<Logprobs> second = bench.Draft({{0, 9, 1}, {1, 9, 1}}, {8, 17}, Source::kDraft);
  const std::vector<Logprobs> third = bench.Draft({{0, 10, 1}, {1, 10, 1}}, {0, 1}, Source::kDraft);

  Bench alone({40, 20});
  alone.Run({{1, 0, 9}});
  alone.Draft({{1, 0, 9}}, {rows.begin(), rows.begin() + 9});
  EXPECT_EQ(alone.Draft({{1, 9, 1}}, {8}, Source::kDraft)[0], second[1]);
  EXPECT_EQ(alone.Draft({{1, 10, 1}}, {0}, Source::kDraft)[0], third[1]);
  EXPECT_NE(alone.Draft({{1, 9, 1}}, {8}, Source::kStep)[0], second[1]);
}

// Position 0 has no row of the module: whatever stands in its place is not seen.
TEST(StepTest, TheModuleDoesNotSeePositionZero) {
  Bench bench({70});
  std::vector<int32_t> rows(66);
  std::iota(rows.begin(), rows.end(), 0);
  bench.Run({{0, 0, 66}});
  const std::vector<Logprobs> expected = bench.Draft({{0, 0, 66}}, rows);
  bench.Overwrite(/*layer=*/2, 0, /*position=*/0);
  EXPECT_EQ(bench.Draft({{0, 0, 66}}, rows), expected);
}

TEST(StepTest, CachedRowsAreComputedAgainAndNotWritten) {
  Bench bench({40});
  const std::vector<Logprobs> expected = bench.Run({{0, 0, 20}});
  const std::vector<std::string> written = bench.CacheRows(0, 19);
  EXPECT_EQ(bench.Run({{0, 19, 1, /*num_cached_rows=*/1}})[0], expected[19]);
  const std::vector<Logprobs> more = bench.Run({{0, 18, 5, /*num_cached_rows=*/2}});
  EXPECT_EQ(more[0], expected[18]);
  EXPECT_EQ(more[1], expected[19]);

  bench.Overwrite(/*layer=*/0, 0, /*position=*/19);
  const std::vector<std::string> overwritten = bench.CacheRows(0, 19);
  bench.Run({{0, 18, 3, /*num_cached_rows=*/2}});
  EXPECT_EQ(bench.CacheRows(0, 19), overwritten);
  bench.Run({{0, 18, 3, /*num_cached_rows=*/1}});
  EXPECT_EQ(bench.CacheRows(0, 19), written);
}

// Trained with the hidden state after the last norm and [embedding | hidden]: any other wiring of the
// module would draft badly. (Its README: 99.98 % of drafts are right; the text is nearly deterministic.)
TEST(StepTest, TheBundledModelsDraftsAreNearlyAlwaysWhatTheModelSays) {
  const auto cluster =
      EngineCluster::Make({.max_context_tokens = 1024, .with_mtp = true, .shards = {{0, 16}}});
  cluster->AnswerAll();
  const int vocab = cluster->config().vocab_size;
  const auto problems = ReadProblems("models/abacus/eval.jsonl");
  ASSERT_TRUE(problems.ok()) << problems.status();
  int num_drafts = 0;
  int num_right = 0;
  for (size_t i = 0; i < problems->size(); i += 100) {
    const Problem& problem = (*problems)[i];
    TraceRequest request;
    request.ids = problem.prompt_ids;
    request.num_prefill = static_cast<int>(request.ids.size());
    request.ids.insert(request.ids.end(), problem.reference_ids.begin(),
                       problem.reference_ids.end());
    request.mtp_ids.assign(request.ids.begin() + 1, request.ids.end());
    const auto trace = RunTrace(cluster->parts(0), request);
    ASSERT_TRUE(trace.ok()) << trace.status();
    // The module's row r says what stands at r + 2.
    for (size_t row = request.num_prefill - 1; row + 2 < request.ids.size(); ++row) {
      const auto logits = trace->mtp_logits.begin() + row * vocab;
      const auto draft = std::max_element(logits, logits + vocab) - logits;
      num_right += draft == request.ids[row + 2];
      ++num_drafts;
    }
  }
  EXPECT_GT(num_drafts, 100);
  EXPECT_GE(num_right, num_drafts * 0.98) << num_right << " of " << num_drafts;
}

TEST(LoadingTheMtpModule, IsRefusedWhenTheCheckpointHasNone) {
  const auto cluster = LocalCluster::Create(
      {.model_dir = WriteRandomCheckpoint(RandomShape{}, 1), .with_mtp = true});
  EXPECT_EQ(cluster.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(cluster.status().message()), HasSubstr("num_nextn_predict_layers is 0"));
}

TEST(LoadingTheMtpModule, NamesATensorThatIsMissing) {
  const std::string dir = WriteRandomCheckpoint(RandomShape{.num_layers = 3}, 1);
  std::ifstream in(dir + "/config.json");
  const std::string config{std::istreambuf_iterator<char>(in), {}};
  std::ofstream(dir + "/config.json") << absl::StrReplaceAll(
      config, {{"\"num_nextn_predict_layers\":0", "\"num_nextn_predict_layers\":1"}});
  const auto cluster = LocalCluster::Create({.model_dir = dir, .with_mtp = true});
  ASSERT_FALSE(cluster.ok());
  EXPECT_THAT(std::string(cluster.status().message()), HasSubstr("model.layers.3.enorm.weight"));
  EXPECT_TRUE(LocalCluster::Create({.model_dir = dir}).ok());
}

TEST(ExpertDirectory, MissesTheModulesExpertsWhereShardsDoNotHoldThem) {
  for (const bool with_mtp : {false, true}) {
    const auto cluster = EngineCluster::Make(
        {.model_dir = "tests/data/golden/mtp", .with_mtp = with_mtp, .shards = {{0, 16}}});
    ExpertDirectory directory(cluster->config(), {"expert-0"}, /*with_mtp=*/true);
    directory.SetClaim(0, {.held = cluster->shard(0).held()});
    EXPECT_EQ(directory.MissingBeyondHeirs(),
              with_mtp ? "" : "layer 2: experts 0-15 have no holder");
  }
}

}  // namespace
}  // namespace orrery
