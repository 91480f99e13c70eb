// The bits of whole answers of the bundled model, pinned: they may depend on the numerics id and on
// nothing else. Run it with --config=o1 and --config=o3 too: no optimiser changes them either.
//
// Who changes the order of a sum on purpose counts up the kernel family, and then these.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tools/eval/examinee.h"
#include "tools/eval/problems.h"
#include "tools/eval/score.h"

namespace orrery {
namespace {

std::string DigestOf(LocalClusterOptions options, const Numerics& numerics) {
  options.model_dir = "models/abacus";
  options.numerics = numerics;
  auto problems = ReadProblems("models/abacus/eval.jsonl");
  EXPECT_TRUE(problems.ok()) << problems.status();
  auto examinee = MakeLocalExaminee(options);
  EXPECT_TRUE(examinee.ok()) << examinee.status();
  if (!problems.ok() || !examinee.ok()) return "";
  Scores scores;
  for (size_t i = 0; i < problems->size(); i += 100) {  // a few of every part of the file
    const auto answer = (*examinee)->Ask((*problems)[i], 256);
    EXPECT_TRUE(answer.ok()) << answer.status();
    if (!answer.ok()) return "";
    scores.Add((*problems)[i], *answer);
  }
  EXPECT_TRUE(scores.agrees()) << scores.ToString();
  return scores.Digest();
}

TEST(AnswerDigest, IsPinnedForF32) {
  EXPECT_EQ(DigestOf({}, {.precision = Precision::kF32, .row_format = RowFormat::kF32}),
            "e24adeaefb660e995a35c1aa06a1a25b");
}

TEST(AnswerDigest, IsPinnedForBf16) {
  EXPECT_EQ(DigestOf({}, {}), "4b039b89d0e8d625817cef4732808951");
}

TEST(AnswerDigest, IsPinnedForFp8Rows) {
  EXPECT_EQ(DigestOf({}, {.row_format = RowFormat::kFp8}), "1fb6c92613335e25032657bb042fc718");
}

LocalClusterOptions Spread() {
  LocalClusterOptions options;
  options.transport = LocalTransport::kGrpc;
  options.num_ranks = 2;
  options.num_shards = 4;
  return options;
}

TEST(AnswerDigest, IsPinnedForInt8Weights) {
  EXPECT_EQ(DigestOf(Spread(), {.ffn_weights = WeightFormat::kInt8}),
            "60fe618172dbc334486b14a5ae013778");
}

TEST(AnswerDigest, IsPinnedForInt4Weights) {
  EXPECT_EQ(DigestOf(Spread(), {.ffn_weights = WeightFormat::kInt4}),
            "aeceec494109e4bc603042e51141155c");
}

TEST(AnswerDigest, IsTheSameThroughRanksAndShards) {
  EXPECT_EQ(DigestOf(Spread(), {}), "4b039b89d0e8d625817cef4732808951");
}

}  // namespace
}  // namespace orrery
