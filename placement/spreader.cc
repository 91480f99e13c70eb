#include "placement/spreader.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"

namespace orrery {
namespace {

// Of what a shard was asked for in earlier steps.
constexpr double kRemembered = 0.5;

}  // namespace

Spreader::Spreader(int num_experts, int num_shards)
    : num_experts_(num_experts), num_shards_(num_shards) {
  with_choice_.reserve(num_experts);
}

void Spreader::Pick(const HolderTable& holders, const LayerVisits& visits,
                    const std::vector<bool>& usable, absl::Span<int> picked) {
  ORRERY_CHECK(visits.rows.size() == static_cast<size_t>(num_experts_) &&
               picked.size() == visits.rows.size() &&
               usable.size() == static_cast<size_t>(num_shards_))
      << visits.rows.size() << " experts of " << num_experts_ << ", " << usable.size()
      << " shards of " << num_shards_;
  std::vector<double>& so_far = rows_so_far_[visits.layer];
  so_far.resize(num_shards_);
  for (double& rows : so_far) rows *= kRemembered;

  with_choice_.clear();
  for (int expert = 0; expert < num_experts_; ++expert) {
    picked[expert] = kNoShard;
    if (visits.rows[expert] == 0) continue;
    int num_usable = 0;
    for (const int shard : holders.Holders({.layer = visits.layer, .expert = expert})) {
      if (!usable[shard]) continue;
      ++num_usable;
      picked[expert] = shard;
    }
    if (num_usable == 1) so_far[picked[expert]] += visits.rows[expert];
    if (num_usable > 1) with_choice_.push_back(expert);
  }
  std::sort(with_choice_.begin(), with_choice_.end(), [&](int a, int b) {
    return visits.rows[a] != visits.rows[b] ? visits.rows[a] > visits.rows[b] : a < b;
  });
  for (const int expert : with_choice_) {
    const std::vector<int>& shards = holders.Holders({.layer = visits.layer, .expert = expert});
    int best = kNoShard;
    for (size_t i = 0; i < shards.size(); ++i) {
      const int shard = shards[(static_cast<size_t>(expert) + i) % shards.size()];
      if (!usable[shard]) continue;
      if (best == kNoShard || so_far[shard] < so_far[best]) best = shard;
    }
    picked[expert] = best;
    so_far[best] += visits.rows[expert];
  }
}

}  // namespace orrery
