#include "tools/check/invariance/covering_array.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace orrery {
namespace {

constexpr int kOpen = -1;  // a level that is not chosen yet
constexpr int kNumCandidates = 32;

// The pairs that no row has shown yet.
class UncoveredPairs {
 public:
  explicit UncoveredPairs(const CoveringSpace& space) : space_(space) {
    for (int num_levels : space.num_levels) {
      first_.push_back(num_all_levels_);
      num_all_levels_ += num_levels;
    }
    open_.assign(static_cast<size_t>(num_all_levels_) * num_all_levels_, false);
    const int num_factors = static_cast<int>(first_.size());
    for (int a = 0; a < num_factors; ++a) {
      for (int b = a + 1; b < num_factors; ++b) OpenPairsOf(a, b);
    }
  }

  int count() const { return count_; }
  bool Has(int factor_a, int level_a, int factor_b, int level_b) const {
    return open_[Index(factor_a, level_a, factor_b, level_b)];
  }
  // How many it holds of those that `level` of `factor` would make with the levels chosen.
  int CountNew(const FactorLevels& row, int factor, int level) const {
    int count = 0;
    for (int other = 0; other < static_cast<int>(row.size()); ++other) {
      if (other != factor && row[other] != kOpen) count += Has(factor, level, other, row[other]);
    }
    return count;
  }
  void Cover(const FactorLevels& row) {
    const int num_factors = static_cast<int>(row.size());
    for (int a = 0; a < num_factors; ++a) {
      for (int b = a + 1; b < num_factors; ++b) Set(a, row[a], b, row[b], false);
    }
  }

 private:
  void OpenPairsOf(int a, int b) {
    for (int i = 0; i < space_.num_levels[a]; ++i) {
      for (int j = 0; j < space_.num_levels[b]; ++j) {
        if (space_.Allows(a, i, b, j)) Set(a, i, b, j, true);
      }
    }
  }
  size_t Index(int factor_a, int level_a, int factor_b, int level_b) const {
    const int a = first_[factor_a] + level_a, b = first_[factor_b] + level_b;
    return static_cast<size_t>(std::min(a, b)) * num_all_levels_ + std::max(a, b);
  }
  void Set(int factor_a, int level_a, int factor_b, int level_b, bool open) {
    const size_t index = Index(factor_a, level_a, factor_b, level_b);
    count_ += static_cast<int>(open) - static_cast<int>(open_[index]);
    open_[index] = open;
  }

  const CoveringSpace& space_;
  std::vector<int> first_;  // by factor: its level 0 among all levels
  int num_all_levels_ = 0;
  std::vector<bool> open_;  // [num_all_levels, num_all_levels], the half above the diagonal
  int count_ = 0;
};

void CheckSpace(const CoveringSpace& space) {
  for (int factor = 0; factor < static_cast<int>(space.num_levels.size()); ++factor) {
    std::vector<bool> is_free(space.num_levels[factor], true);
    for (const ForbiddenPair& pair : space.forbidden) {
      if (pair.factor_a == factor) is_free[pair.level_a] = false;
      if (pair.factor_b == factor) is_free[pair.level_b] = false;
    }
    ORRERY_CHECK(std::count(is_free.begin(), is_free.end(), true) > 0)
        << "every level of factor " << factor << " is forbidden with something";
  }
}

bool FitsRow(const CoveringSpace& space, const FactorLevels& row, int factor, int level) {
  for (int other = 0; other < static_cast<int>(row.size()); ++other) {
    if (other == factor || row[other] == kOpen) continue;
    if (!space.Allows(factor, level, other, row[other])) return false;
  }
  return true;
}

int Below(int limit, std::mt19937_64& random) { return static_cast<int>(random() % limit); }

std::vector<int> Shuffled(int count, std::mt19937_64& random) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  for (int i = count - 1; i > 0; --i) std::swap(order[i], order[Below(i + 1, random)]);
  return order;
}

// The open factors, in random order, each with the level that shows most new pairs.
void Complete(const CoveringSpace& space, const UncoveredPairs& uncovered, std::mt19937_64& random,
              FactorLevels& row) {
  for (int factor : Shuffled(static_cast<int>(row.size()), random)) {
    if (row[factor] != kOpen) continue;
    int best = kOpen, most = -1;
    for (int level : Shuffled(space.num_levels[factor], random)) {
      if (!FitsRow(space, row, factor, level)) continue;
      const int count = uncovered.CountNew(row, factor, level);
      if (count > most) std::tie(best, most) = std::pair(level, count);
    }
    row[factor] = best;
  }
}

// A row that is empty but for one pair that is not covered yet.
FactorLevels SeedRow(const CoveringSpace& space, const UncoveredPairs& uncovered,
                     std::mt19937_64& random) {
  const int num_factors = static_cast<int>(space.num_levels.size());
  FactorLevels row(num_factors, kOpen);
  const std::vector<int> order = Shuffled(num_factors, random);
  for (int a : order) {
    for (int b : order) {
      if (a == b) continue;
      for (int i : Shuffled(space.num_levels[a], random)) {
        for (int j : Shuffled(space.num_levels[b], random)) {
          if (!uncovered.Has(a, i, b, j)) continue;
          row[a] = i;
          row[b] = j;
          return row;
        }
      }
    }
  }
  return row;
}

int CountNew(const UncoveredPairs& uncovered, const FactorLevels& row) {
  int twice = 0;
  for (int factor = 0; factor < static_cast<int>(row.size()); ++factor) {
    twice += uncovered.CountNew(row, factor, row[factor]);
  }
  return twice / 2;
}

}  // namespace

bool CoveringSpace::Allows(int factor_a, int level_a, int factor_b, int level_b) const {
  return std::none_of(forbidden.begin(), forbidden.end(), [&](const ForbiddenPair& pair) {
    return (pair.factor_a == factor_a && pair.level_a == level_a && pair.factor_b == factor_b &&
            pair.level_b == level_b) ||
           (pair.factor_a == factor_b && pair.level_a == level_b && pair.factor_b == factor_a &&
            pair.level_b == level_a);
  });
}

std::vector<FactorLevels> PairwiseRows(const CoveringSpace& space, uint64_t seed) {
  CheckSpace(space);
  std::mt19937_64 random(seed);
  UncoveredPairs uncovered(space);
  std::vector<FactorLevels> rows;
  while (uncovered.count() > 0) {
    FactorLevels best;
    int most = 0;
    for (int i = 0; i < kNumCandidates; ++i) {
      FactorLevels row = SeedRow(space, uncovered, random);
      Complete(space, uncovered, random, row);
      const int count = CountNew(uncovered, row);
      if (count > most) std::tie(best, most) = std::pair(std::move(row), count);
    }
    uncovered.Cover(best);
    rows.push_back(std::move(best));
  }
  return rows;
}

std::vector<FactorLevels> RandomRows(const CoveringSpace& space, int count, uint64_t seed) {
  CheckSpace(space);
  std::mt19937_64 random(seed);
  const int num_factors = static_cast<int>(space.num_levels.size());
  std::vector<FactorLevels> rows;
  for (int i = 0; i < count; ++i) {
    FactorLevels row(num_factors, kOpen);
    for (int factor : Shuffled(num_factors, random)) {
      // The first that fits, of all in random order.
      for (int level : Shuffled(space.num_levels[factor], random)) {
        if (!FitsRow(space, row, factor, level)) continue;
        row[factor] = level;
        break;
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace orrery
