// AppendKv and Attend of every implementation against the formula in f64, and the promises about
// rows, chunks and what lies behind the end of a sequence.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/conformance/kernels_testing.h"

namespace orrery {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct AttentionCase {
  DType format = DType::kBf16;
  int num_heads = 1;
  int key_dim = 1;
  int key_offset = 0;
  int value_dim = 1;
  int value_offset = 0;
  int row_width = 1;
  int num_positions = 1;
};

// A sequence of num_positions rows in a paged cache whose blocks lie in no order, everything else
// NaN.
class Sequence {
 public:
  Sequence(Kernels& kernels, const AttentionCase& c, uint32_t seed)
      : kernels_(kernels),
        case_(c),
        num_blocks_((c.num_positions + kKvBlockTokens - 1) / kKvBlockTokens + 2),
        cache_(static_cast<size_t>(num_blocks_) * kKvBlockTokens * c.row_width *
               DTypeBytes(c.format)) {
    for (int b = num_blocks_ - 1; b >= 2; --b) block_ids_.push_back(b);
    RandomValues random(seed);
    rows_ = random.Make(static_cast<size_t>(c.num_positions) * c.row_width);
    queries_ = random.Make(static_cast<size_t>(c.num_positions) * c.num_heads * c.key_dim);
    Forget();
  }

  // From now on rows do not see the positions before.
  void SeeFrom(int begin_position) { begin_position_ = begin_position; }

  // The sequence that begins with row num_rows of this one.
  Sequence Without(int num_rows) const {
    AttentionCase rest = case_;
    rest.num_positions -= num_rows;
    Sequence sequence(kernels_, rest, 0);
    sequence.rows_.assign(rows_.begin() + num_rows * case_.row_width, rows_.end());
    sequence.queries_.assign(queries_.begin() + num_rows * case_.num_heads * case_.key_dim,
                             queries_.end());
    return sequence;
  }

  void Forget() {
    const std::vector<float> nans(cache_.size() / DTypeBytes(case_.format), kNan);
    for (size_t i = 0; i < nans.size(); ++i) {
      std::memcpy(cache_.data() + i * DTypeBytes(case_.format),
                  reinterpret_cast<const char*>(&nans[i]) + 4 - DTypeBytes(case_.format),
                  DTypeBytes(case_.format));
    }
  }

  KvCacheView view() { return {case_.format, cache_.data(), num_blocks_, case_.row_width}; }

  void Append(int begin, int end) {
    kernels_.AppendKv(ConstMatrix(rows_.data() + static_cast<size_t>(begin) * case_.row_width,
                                  end - begin, case_.row_width),
                      view(), block_ids_, begin);
  }

  std::vector<float> Attend(int begin, int end) {
    const int q_width = case_.num_heads * case_.key_dim;
    TestMatrix q(
        end - begin, q_width,
        std::vector<float>(queries_.begin() + begin * q_width, queries_.begin() + end * q_width));
    TestMatrix out(end - begin, case_.num_heads * case_.value_dim);
    kernels_.Attend({.q = q.view(),
                     .num_heads = case_.num_heads,
                     .key_dim = case_.key_dim,
                     .key_offset = case_.key_offset,
                     .value_dim = case_.value_dim,
                     .value_offset = case_.value_offset,
                     .scale = Scale(),
                     .cache = view(),
                     .block_ids = block_ids_,
                     .begin_position = begin_position_,
                     .first_position = begin,
                     .out = out.view()});
    EXPECT_TRUE(out.GapsAreUntouched());
    return out.Values();
  }

  // Append and attend in chunks, as prefill does.
  std::vector<float> InChunksOf(int chunk) {
    Forget();
    std::vector<float> all;
    for (int begin = 0; begin < case_.num_positions; begin += chunk) {
      const int end = std::min(begin + chunk, case_.num_positions);
      Append(begin, end);
      if (end <= begin_position_) continue;
      const std::vector<float> part = Attend(std::max(begin, begin_position_), end);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(case_.key_dim)); }
  double Round(float value) const {
    return case_.format == DType::kBf16 ? RoundToBf16(value) : value;
  }
  double Row(int position, int i) const { return Round(rows_[position * case_.row_width + i]); }
  double Query(int position, int head, int d) const {
    return Round(queries_[(position * case_.num_heads + head) * case_.key_dim + d]);
  }
  const std::vector<int32_t>& block_ids() const { return block_ids_; }
  const std::vector<std::byte>& cache() const { return cache_; }

  void CheckAgainstFormula(const std::vector<float>& out, int begin, int end) const;

 private:
  Kernels& kernels_;
  AttentionCase case_;
  int num_blocks_;
  std::vector<std::byte> cache_;
  std::vector<int32_t> block_ids_;
  std::vector<float> rows_;
  std::vector<float> queries_;
  int begin_position_ = 0;
};

void Sequence::CheckAgainstFormula(const std::vector<float>& out, int begin, int end) const {
  const double weight_rounding = case_.format == DType::kBf16 ? kBf16Unit : 0.0;
  for (int position = begin; position < end; ++position) {
    for (int h = 0; h < case_.num_heads; ++h) {
      std::vector<double> scores;
      double score_error = 0.0;
      for (int j = begin_position_; j <= position; ++j) {
        double sum = 0.0;
        double absolute_sum = 0.0;
        for (int d = 0; d < case_.key_dim; ++d) {
          const double product = Query(position, h, d) * Row(j, case_.key_offset + d);
          sum += product;
          absolute_sum += std::fabs(product);
        }
        scores.push_back(Scale() * sum);
        score_error =
            std::max(score_error, Scale() * SumTolerance(case_.key_dim + 2, absolute_sum));
      }
      const double max = *std::max_element(scores.begin(), scores.end());
      double total = 0.0;
      for (double& score : scores) total += score = std::exp(score - max);
      for (int d = 0; d < case_.value_dim; ++d) {
        double want = 0.0;
        double absolute = 0.0;
        for (int j = begin_position_; j <= position; ++j) {
          const double part = scores[j - begin_position_] / total * Row(j, case_.value_offset + d);
          want += part;
          absolute += std::fabs(part);
        }
        // Each weight and their sum are off by the error of a score (twice: the maximum too) and a
        // few units; the weights are then rounded to the cache's format and summed.
        const double relative =
            4 * score_error + weight_rounding + 2 * (position + 1 + 20) * kF32Unit;
        const size_t index =
            (static_cast<size_t>(position - begin) * case_.num_heads + h) * case_.value_dim + d;
        ASSERT_NEAR(out[index], want, relative * absolute + 1e-37)
            << "position " << position << ", head " << h << ", dim " << d;
      }
    }
  }
}

const AttentionCase kCases[] = {
    {DType::kF32, 1, 1, 0, 1, 0, 1, 3},
    // As MLA: the value is the front of the key.
    {DType::kF32, 5, 48, 0, 32, 0, 48, 150},
    {DType::kBf16, 5, 48, 0, 32, 0, 48, 150},
    // As GQA: one of two kv heads, keys before values, odd sizes.
    {DType::kBf16, 3, 17, 17, 17, 51, 68, 70},
    {DType::kF32, 17, 33, 7, 31, 3, 100, 65},
    {DType::kBf16, 33, 100, 1, 100, 0, 101, 64},
};

class Attention : public KernelsConformance {};
ORRERY_INSTANTIATE_FOR_ALL_KERNELS(Attention);

TEST_P(Attention, AppendKvPutsRoundedRowsIntoTheirBlocks) {
  for (const AttentionCase& c : kCases) {
    Sequence sequence(*kernels_, c, 1);
    sequence.Append(0, c.num_positions);
    sequence.Append(0, 0);
    const int bytes = DTypeBytes(c.format);
    for (int position = 0; position < c.num_positions; ++position) {
      const int block = sequence.block_ids()[position / kKvBlockTokens];
      const size_t row = block * kKvBlockTokens + position % kKvBlockTokens;
      for (int i = 0; i < c.row_width; ++i) {
        uint32_t bits = 0;
        std::memcpy(reinterpret_cast<char*>(&bits) + 4 - bytes,
                    sequence.cache().data() + (row * c.row_width + i) * bytes, bytes);
        ASSERT_EQ(std::bit_cast<float>(bits), sequence.Row(position, i));
      }
    }
  }
}

TEST_P(Attention, AgreesWithTheFormula) {
  for (const AttentionCase& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.num_heads << " heads, key " << c.key_dim << ", "
                                    << c.num_positions << " positions");
    Sequence sequence(*kernels_, c, 2);
    sequence.Append(0, c.num_positions);
    sequence.CheckAgainstFormula(sequence.Attend(0, c.num_positions), 0, c.num_positions);
  }
}

// Implementations may cut long sequences into parts that are combined: around 1,024 tokens and 2,048, for
// rows that see all of them and rows that see the last of the first.
TEST_P(Attention, AgreesWithTheFormulaOverALongSequence) {
  for (const DType format : {DType::kF32, DType::kBf16}) {
    for (const int begin : {0, 1020}) {
      Sequence sequence(*kernels_, {format, 3, 20, 0, 12, 8, 24, 2100}, 9);
      sequence.SeeFrom(begin);
      sequence.Append(begin, 2100);
      for (const int first : {1022, 2046}) {
        SCOPED_TRACE(testing::Message() << "rows from " << first << " see from " << begin);
        const std::vector<float> out = sequence.Attend(first, first + 4);
        sequence.CheckAgainstFormula(out, first, first + 4);
        std::vector<float> alone;
        for (int row = first; row < first + 4; ++row) {
          const std::vector<float> one = sequence.Attend(row, row + 1);
          alone.insert(alone.end(), one.begin(), one.end());
        }
        EXPECT_TRUE(SameBits(alone, out));
      }
    }
  }
}

// MLA of DeepSeek-V3, and values that are wider.
TEST_P(Attention, AgreesWithTheFormulaForWideHeads) {
  for (const AttentionCase& c : {AttentionCase{DType::kBf16, 16, 576, 0, 512, 0, 576, 100},
                                 AttentionCase{DType::kBf16, 70, 576, 8, 512, 8, 592, 260},
                                 AttentionCase{DType::kBf16, 2, 20, 0, 530, 0, 530, 70},
                                 AttentionCase{DType::kF32, 2, 20, 0, 530, 0, 530, 70}}) {
    Sequence sequence(*kernels_, c, 10);
    sequence.Append(0, c.num_positions);
    for (const int row : {20, c.num_positions - 1}) {
      sequence.CheckAgainstFormula(sequence.Attend(row, row + 1), row, row + 1);
    }
  }
}

// MLA may have kernels of its own: some rows at once, each alone, with a begin, and with no numbers behind them; then
// over several parts of a long sequence.
TEST_P(Attention, KeepsItsPromisesForMla) {
  constexpr int kNumHeads = 3, kBegin = 37, kEnd = 200;
  Sequence sequence(*kernels_, {DType::kBf16, kNumHeads, 576, 0, 512, 0, 576, kEnd}, 11);
  sequence.SeeFrom(kBegin);
  sequence.Append(kBegin, kEnd);
  for (const int first : {kBegin, 62, 126, kEnd - 3}) {
    SCOPED_TRACE(testing::Message() << "rows from " << first);
    const std::vector<float> out = sequence.Attend(first, first + 3);
    sequence.CheckAgainstFormula(out, first, first + 3);
    std::vector<float> alone;
    for (int row = first; row < first + 3; ++row) {
      sequence.Forget();
      sequence.Append(kBegin, row + 1);
      const std::vector<float> one = sequence.Attend(row, row + 1);
      alone.insert(alone.end(), one.begin(), one.end());
    }
    EXPECT_TRUE(SameBits(alone, out));
    sequence.Append(kBegin, kEnd);
  }
  Sequence longer(*kernels_, {DType::kBf16, kNumHeads, 576, 0, 512, 0, 576, 2060}, 12);
  longer.Append(0, 2060);
  longer.CheckAgainstFormula(longer.Attend(2047, 2049), 2047, 2049);
}

TEST_P(Attention, TakesNoRows) {
  Sequence sequence(*kernels_, kCases[1], 3);
  EXPECT_TRUE(sequence.Attend(0, 0).empty());
}

TEST_P(Attention, ChunkingChangesNoBit) {
  for (const AttentionCase& c : kCases) {
    Sequence sequence(*kernels_, c, 4);
    const std::vector<float> whole = sequence.InChunksOf(c.num_positions);
    for (int chunk : {1, 7, 64}) EXPECT_TRUE(SameBits(sequence.InChunksOf(chunk), whole)) << chunk;
  }
}

// Rows in the middle, when the cache already holds what comes after them and when it holds NaN
// there.
TEST_P(Attention, WhatLiesBehindARowLeavesNoTrace) {
  for (const AttentionCase& c : kCases) {
    Sequence sequence(*kernels_, c, 5);
    const int middle = c.num_positions / 2;
    sequence.Append(0, middle + 1);
    const std::vector<float> with_nan = sequence.Attend(middle, middle + 1);
    for (float value : with_nan) EXPECT_FALSE(std::isnan(value));
    sequence.Append(middle + 1, c.num_positions);
    EXPECT_TRUE(SameBits(sequence.Attend(middle, middle + 1), with_nan));
  }
}

// At the second position, in the middle of a block, at its last token, past the first block.
constexpr int kBeginPositions[] = {1, 37, 63, 64, 90};

TEST_P(Attention, SeesNothingBeforeTheBegin) {
  for (const AttentionCase& c : kCases) {
    for (const int begin : kBeginPositions) {
      if (begin >= c.num_positions) continue;
      SCOPED_TRACE(testing::Message() << c.num_positions << " positions from " << begin);
      Sequence sequence(*kernels_, c, 7);
      sequence.SeeFrom(begin);
      sequence.Append(begin, c.num_positions);  // NaN before
      const std::vector<float> out = sequence.Attend(begin, c.num_positions);
      sequence.CheckAgainstFormula(out, begin, c.num_positions);
      sequence.Append(0, begin);
      EXPECT_TRUE(SameBits(sequence.Attend(begin, c.num_positions), out));
      for (int chunk : {1, 7, 64}) EXPECT_TRUE(SameBits(sequence.InChunksOf(chunk), out)) << chunk;
      // Without blocks, or with the same ones, it is the attention of a shorter sequence.
      if (kernels_->family() != "reference-1" && begin % kKvBlockTokens != 0) continue;
      EXPECT_TRUE(SameBits(sequence.Without(begin).InChunksOf(c.num_positions), out));
    }
  }
}

// Rows of one call, of which the last has appended what is not finite.
TEST_P(Attention, ARowLeavesNoTraceInThoseBeforeIt) {
  for (const AttentionCase& c : kCases) {
    for (const float value : {kNan, std::numeric_limits<float>::infinity()}) {
      const int last = std::min(c.num_positions, 70) - 1;
      Sequence sequence(*kernels_, c, 8);
      sequence.Append(0, last + 1);
      const std::vector<float> before = sequence.Attend(0, last);
      TestMatrix row(1, c.row_width, std::vector<float>(c.row_width, value));
      kernels_->AppendKv(row.view(), sequence.view(), sequence.block_ids(), last);
      std::vector<float> after = sequence.Attend(0, last + 1);
      after.resize(before.size());
      EXPECT_TRUE(SameBits(after, before)) << c.num_positions << " positions";
    }
  }
}

// Scores of 1e4 would overflow exp without the maximum; far smaller ones vanish.
TEST_P(Attention, SurvivesLargeScores) {
  AttentionCase c = {DType::kF32, 2, 4, 0, 4, 0, 4, 130};
  Sequence sequence(*kernels_, c, 6);
  sequence.Append(0, c.num_positions);
  TestMatrix q(1, 8, std::vector<float>(8, 1e4f));
  TestMatrix out(1, 8);
  kernels_->Attend({.q = q.view(),
                    .num_heads = 2,
                    .key_dim = 4,
                    .value_dim = 4,
                    .cache = sequence.view(),
                    .block_ids = sequence.block_ids(),
                    .first_position = c.num_positions - 1,
                    .out = out.view()});
  int best = 0;
  auto sum = [&](int j) {
    return sequence.Row(j, 0) + sequence.Row(j, 1) + sequence.Row(j, 2) + sequence.Row(j, 3);
  };
  for (int j = 1; j < c.num_positions; ++j) best = sum(j) > sum(best) ? j : best;
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(out.view().row(0)[i], sequence.Row(best, i), 1e-6);
}

}  // namespace
}  // namespace orrery
