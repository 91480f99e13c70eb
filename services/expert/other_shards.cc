#include "services/expert/other_shards.h"

#include <algorithm>

#include "placement/heirs.h"

namespace orrery {
namespace {

// Members have few shards to convict; what others say must not fill the memory.
constexpr size_t kMaxConvicted = 1024;

}  // namespace

OtherShards::OtherShards(std::vector<std::string> names, std::vector<ExpertRange> homes, int self)
    : names_(std::move(names)),
      homes_(std::move(homes)),
      self_(self),
      descriptions_(names_.size()) {}

void OtherShards::OnDescription(int shard, Description description) {
  descriptions_[shard] = std::move(description);
}

void OtherShards::OnConvicted(absl::Span<const uint64_t> incarnations, absl::Time now) {
  std::erase_if(convicted_at_,
                [&](const auto& convicted) { return now - convicted.second >= kConvictionTime; });
  for (const uint64_t incarnation : incarnations) {
    if (convicted_at_.size() < kMaxConvicted) convicted_at_[incarnation] = now;
  }
}

bool OtherShards::Holds(int shard, ExpertKey key, absl::Time now) const {
  const Description& description = descriptions_[shard];
  if (shard == self_ || !description.is_serving ||
      description.held.count({key.layer, key.expert}) == 0) {
    return false;
  }
  const auto convicted = convicted_at_.find(description.incarnation);
  return convicted == convicted_at_.end() || now - convicted->second >= kConvictionTime;
}

bool OtherShards::ServesItsOwn(ExpertKey key, absl::Time now) const {
  for (size_t shard = 0; shard < homes_.size(); ++shard) {
    const ExpertRange& home = homes_[shard];
    if (key.expert >= home.begin && key.expert < home.end) return Holds(shard, key, now);
  }
  return false;
}

bool OtherShards::IsHeldBefore(ExpertKey key, absl::Time now) const {
  std::vector<bool> holds(names_.size());
  for (size_t shard = 0; shard < names_.size(); ++shard) holds[shard] = Holds(shard, key, now);
  // Mostly nobody does; then the order need not be worked out.
  if (std::count(holds.begin(), holds.end(), true) == 0) return false;
  for (const int shard : HeirOrder(key, names_)) {
    if (shard == self_) return false;
    if (holds[shard]) return true;
  }
  return false;
}

}  // namespace orrery
