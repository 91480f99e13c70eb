#include "tools/check/invariance/covering_array.h"

#include <set>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

namespace orrery {
namespace {

using Pair = std::tuple<int, int, int, int>;

std::set<Pair> PairsIn(const std::vector<FactorLevels>& rows) {
  std::set<Pair> pairs;
  for (const FactorLevels& row : rows) {
    for (int a = 0; a < static_cast<int>(row.size()); ++a) {
      for (int b = a + 1; b < static_cast<int>(row.size()); ++b) {
        pairs.insert({a, row[a], b, row[b]});
      }
    }
  }
  return pairs;
}

std::set<Pair> AllowedPairs(const CoveringSpace& space) {
  std::set<Pair> pairs;
  for (int a = 0; a < static_cast<int>(space.num_levels.size()); ++a) {
    for (int b = a + 1; b < static_cast<int>(space.num_levels.size()); ++b) {
      for (int i = 0; i < space.num_levels[a]; ++i) {
        for (int j = 0; j < space.num_levels[b]; ++j) {
          if (space.Allows(a, i, b, j)) pairs.insert({a, i, b, j});
        }
      }
    }
  }
  return pairs;
}

TEST(PairwiseRows, CoverEveryAllowedPairAndNoOther) {
  const CoveringSpace spaces[] = {
      {.num_levels = {2, 2, 3, 3, 2, 3, 3, 3, 2, 3, 3, 2}},
      {.num_levels = {2, 2, 3, 3, 2, 3, 3, 3, 2, 3, 3, 2}, .forbidden = {{4, 1, 0, 0}}},
      {.num_levels = {4, 4, 4}, .forbidden = {{0, 0, 1, 0}, {1, 0, 2, 3}, {2, 2, 0, 1}}},
      {.num_levels = {1, 1, 5}},
      {.num_levels = {7, 2}},
  };
  for (const CoveringSpace& space : spaces) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      EXPECT_EQ(PairsIn(PairwiseRows(space, seed)), AllowedPairs(space)) << "seed " << seed;
    }
  }
}

TEST(PairwiseRows, AreFewAndTheSameForTheSameSeed) {
  const CoveringSpace space = {.num_levels = {2, 2, 3, 3, 2, 3, 3, 3, 2, 3, 3, 2}};
  const std::vector<FactorLevels> rows = PairwiseRows(space, 1);
  EXPECT_GE(rows.size(), 9u);  // two factors of three levels
  EXPECT_LE(rows.size(), 18u);
  EXPECT_EQ(PairwiseRows(space, 1), rows);
  EXPECT_NE(PairwiseRows(space, 2), rows);
}

TEST(PairwiseRows, AreNoneWhenThereIsNothingToPair) {
  EXPECT_TRUE(PairwiseRows({.num_levels = {}}, 1).empty());
  EXPECT_TRUE(PairwiseRows({.num_levels = {3}}, 1).empty());
}

TEST(RandomRows, StayWithinTheSpaceAndReachEveryPairInTheEnd) {
  const CoveringSpace space = {.num_levels = {2, 3, 2}, .forbidden = {{0, 1, 1, 2}, {1, 0, 2, 1}}};
  EXPECT_EQ(PairsIn(RandomRows(space, 500, 7)), AllowedPairs(space));
  EXPECT_EQ(RandomRows(space, 5, 7), RandomRows(space, 5, 7));
  EXPECT_TRUE(RandomRows(space, 0, 7).empty());
}

}  // namespace
}  // namespace orrery
