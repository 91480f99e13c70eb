// Which combinations to try when there are too many: rows in which every two levels of every two
// factors meet at least once (a pairwise covering array).
//
//   CoveringSpace space = {.num_levels = {2, 3, 3}, .forbidden = {{0, 0, 2, 1}}};
//   std::vector<FactorLevels> rows = PairwiseRows(space, /*seed=*/1);    // about 9 instead of 18
//
// Most faults need one setting, or two together (Kuhn, Wallace, Gallo, "Software fault interactions
// and implications for software testing", 2004); random rows look for the rest.
//
// Greedy, after Cohen et al., "The AETG system" (1997): not the smallest array, but close, and the
// same for the same seed. Pure functions.
#ifndef ORRERY_TOOLS_CHECK_INVARIANCE_COVERING_ARRAY_H_
#define ORRERY_TOOLS_CHECK_INVARIANCE_COVERING_ARRAY_H_

#include <cstdint>
#include <vector>

namespace orrery {

// Two levels of two factors that exclude each other.
struct ForbiddenPair {
  int factor_a = 0, level_a = 0;
  int factor_b = 0, level_b = 0;
};

// Requirement: every factor has a level that nothing forbids, so that every choice can be
// completed.
struct CoveringSpace {
  std::vector<int> num_levels;  // by factor, each at least 1
  std::vector<ForbiddenPair> forbidden{};

  bool Allows(int factor_a, int level_a, int factor_b, int level_b) const;
};

// The level of every factor.
using FactorLevels = std::vector<int>;

// Every pair of levels that is allowed stands in some row, and none that is forbidden.
std::vector<FactorLevels> PairwiseRows(const CoveringSpace& space, uint64_t seed);

// `count` rows drawn at random, none with a forbidden pair; they may repeat.
std::vector<FactorLevels> RandomRows(const CoveringSpace& space, int count, uint64_t seed);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_INVARIANCE_COVERING_ARRAY_H_
