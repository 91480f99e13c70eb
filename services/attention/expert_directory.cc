#include "services/attention/expert_directory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/moe_layers.h"

namespace orrery {

ExpertDirectory::ExpertDirectory(const ModelConfig& config, std::vector<std::string> shard_names,
                                 bool with_mtp, std::vector<bool> is_spare)
    : num_experts_(config.num_experts),
      moe_layers_(MoeLayers(config, with_mtp)),
      shard_names_(std::move(shard_names)),
      is_spare_(is_spare.empty() ? std::vector<bool>(shard_names_.size()) : std::move(is_spare)),
      holders_(num_shards()),
      spreader_(num_experts_, num_shards()),
      shards_(num_shards()) {}

void ExpertDirectory::Changed() {
  if (!heirs_allowed_) heirs_allowed_ = MissingExperts().empty();
  ++version_;
  changed_.notify_all();
}

void ExpertDirectory::SetClaim(int shard, ShardClaim claim) {
  std::lock_guard lock(mutex_);
  Shard& known = shards_[shard];
  if (std::exchange(known.is_unknown, false)) Changed();
  if (known.claim == claim) return;  // as it says every second or two
  if (known.incarnation != claim.incarnation) {
    known.incarnation = claim.incarnation;
    known.is_quarantined = false;
    known.doubt.clear();
  }
  if (known.is_quarantined) return;
  holders_.SetHeld(shard, claim.held);
  known.is_live = true;
  known.is_draining = claim.is_draining;
  known.room = claim.room;
  known.num_loading = claim.num_loading;
  known.claim = std::move(claim);
  Changed();
}

void ExpertDirectory::SetAsker(std::function<void(int shard)> ask) {
  std::lock_guard lock(mutex_);
  ask_ = std::move(ask);
}

void ExpertDirectory::OnReconnects(int shard, int64_t num_reconnects) {
  std::lock_guard lock(mutex_);
  Shard& known = shards_[shard];
  if (known.num_reconnects == num_reconnects || ask_ == nullptr) return;
  known.num_reconnects = num_reconnects;
  known.is_unknown = true;
  ask_(shard);
}

std::vector<bool> ExpertDirectory::Barred() const {
  std::lock_guard lock(mutex_);
  std::vector<bool> barred(shards_.size());
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    barred[shard] = shards_[shard].is_quarantined || shards_[shard].is_unknown;
  }
  return barred;
}

void ExpertDirectory::SetGone(int shard) {
  std::lock_guard lock(mutex_);
  if (!shards_[shard].is_live) return;
  Clear(shard);
  Changed();
}

void ExpertDirectory::Clear(int shard) {
  holders_.SetHeld(shard, {});
  Shard& known = shards_[shard];
  known.claim = std::nullopt;
  known.is_live = false;
  known.is_draining = false;
  known.room = std::nullopt;
  known.num_loading = 0;
}

void ExpertDirectory::Quarantine(int shard, std::string why) {
  std::lock_guard lock(mutex_);
  Clear(shard);
  for (Shard& other : shards_) {
    if (!other.is_quarantined) other.doubt.clear();
  }
  shards_[shard].is_quarantined = true;
  shards_[shard].doubt = std::move(why);
  Changed();
  if (ask_ == nullptr) return;
  for (int other = 0; other < num_shards(); ++other) ask_(other);
}

void ExpertDirectory::Suspect(int shard, std::string why) {
  std::lock_guard lock(mutex_);
  if (!shards_[shard].is_quarantined) shards_[shard].doubt = std::move(why);
}

std::vector<bool> ExpertDirectory::Quarantined() const {
  std::lock_guard lock(mutex_);
  std::vector<bool> quarantined(shards_.size());
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    quarantined[shard] = shards_[shard].is_quarantined;
  }
  return quarantined;
}

std::vector<uint64_t> ExpertDirectory::Convicted() const {
  std::lock_guard lock(mutex_);
  std::vector<uint64_t> convicted;
  for (const Shard& shard : shards_) {
    if (shard.is_quarantined) convicted.push_back(shard.incarnation);
  }
  return convicted;
}

std::string ExpertDirectory::Doubt(int shard) const {
  std::lock_guard lock(mutex_);
  return shards_[shard].doubt;
}

void ExpertDirectory::Add(int shard, ExpertKey key) {
  std::lock_guard lock(mutex_);
  if (holders_.Holds(shard, key) || shards_[shard].is_quarantined) return;
  holders_.Add(shard, key);
  shards_[shard].claim = std::nullopt;
  Changed();
}

void ExpertDirectory::Remove(int shard, ExpertKey key) {
  std::lock_guard lock(mutex_);
  if (!holders_.Holds(shard, key)) return;
  holders_.Remove(shard, key);
  shards_[shard].claim = std::nullopt;
  Changed();
}

void ExpertDirectory::AllowHeirs() {
  std::lock_guard lock(mutex_);
  if (heirs_allowed_) return;
  heirs_allowed_ = true;
  Changed();
}

void ExpertDirectory::PickHolders(const LayerVisits& visits, const std::vector<bool>& usable,
                                  std::vector<int>& holders) {
  std::lock_guard lock(mutex_);
  spreader_.Pick(holders_, visits, usable, absl::MakeSpan(holders));
}

bool ExpertDirectory::Holds(int shard, ExpertKey key) const {
  std::lock_guard lock(mutex_);
  return holders_.Holds(shard, key);
}

std::vector<int> ExpertDirectory::Holders(ExpertKey key) const {
  std::lock_guard lock(mutex_);
  return holders_.Holders(key);
}

std::vector<int> ExpertDirectory::Heirs(ExpertKey key, bool or_loading) const {
  std::lock_guard lock(mutex_);
  std::vector<int> heirs;
  if (!heirs_allowed_) return heirs;
  for (const int shard : HeirOrder(key, shard_names_)) {
    const Shard& known = shards_[shard];
    const bool may_load = known.room.value_or(0) > 0 || (or_loading && known.num_loading > 0);
    if (known.is_live && !known.is_draining && may_load) heirs.push_back(shard);
  }
  return heirs;
}

std::vector<bool> ExpertDirectory::Draining() const {
  std::lock_guard lock(mutex_);
  std::vector<bool> draining(shards_.size());
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    draining[shard] = shards_[shard].is_draining;
  }
  return draining;
}

bool ExpertDirectory::is_any_draining() const {
  std::lock_guard lock(mutex_);
  return std::any_of(shards_.begin(), shards_.end(),
                     [](const Shard& shard) { return shard.is_draining; });
}

std::vector<LayerExperts> ExpertDirectory::MissingExperts() const {
  const std::vector<bool> all(holders_.num_shards(), true);
  return holders_.MissingExperts(moe_layers_, num_experts_, all);
}

std::string ExpertDirectory::MissingBeyondHeirs() const {
  std::lock_guard lock(mutex_);
  if (missing_.version != version_) missing_ = {version_, DescribeMissingBeyondHeirs()};
  return missing_.text;
}

int ExpertDirectory::num_missing() const {
  std::lock_guard lock(mutex_);
  size_t num_missing = 0;
  for (const LayerExperts& layer : MissingExperts()) num_missing += layer.experts.size();
  return static_cast<int>(num_missing);
}

std::string ExpertDirectory::DescribeMissingBeyondHeirs() const {
  const std::vector<LayerExperts> missing = MissingExperts();
  size_t num_missing = 0;
  int room = 0;
  for (const LayerExperts& layer : missing) num_missing += layer.experts.size();
  for (const Shard& shard : shards_) {
    if (!heirs_allowed_ || !shard.is_live || shard.is_draining) continue;
    room += shard.room.value_or(0) + shard.num_loading;
  }
  return num_missing <= static_cast<size_t>(room) ? "" : DescribeMissing(missing);
}

std::string ExpertDirectory::Uncovered(int max_failed_shards) const {
  std::lock_guard lock(mutex_);
  if (uncovered_.version != version_) uncovered_ = {version_, DescribeUncovered(max_failed_shards)};
  return uncovered_.text;
}

std::string ExpertDirectory::DescribeUncovered(int max_failed_shards) const {
  std::vector<int> room;
  for (size_t i = 0; i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    const bool is_known = shard.is_live && shard.room.has_value();
    if (!is_known && !is_spare_[i]) return "";
    room.push_back(is_known ? *shard.room : 0);
  }
  const std::optional<orrery::Uncovered> uncovered =
      FindUncovered(holders_, {.layers = moe_layers_,
                               .num_experts = num_experts_,
                               .max_failed_shards = max_failed_shards,
                               .room = room});
  if (!uncovered.has_value()) return "";
  std::vector<std::string> names;
  for (const int shard : uncovered->failed_shards) names.push_back(shard_names_[shard]);
  return absl::StrCat("without ", absl::StrJoin(names, " and "), ", ", uncovered->num_experts,
                      " experts would have no holder, and the other shards may load ",
                      uncovered->room,
                      " of them: raise limits.heir_bytes, give them all files of the model, or "
                      "lower limits.max_failed_shards");
}

uint64_t ExpertDirectory::version() const {
  std::lock_guard lock(mutex_);
  return version_;
}

void ExpertDirectory::WaitForChange(uint64_t seen, absl::Time deadline) const {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, absl::ToChronoTime(deadline), [&] { return version_ != seen; });
}

void ExpertDirectory::CountHedge(int shard) {
  std::lock_guard lock(mutex_);
  ++shards_[shard].counters.hedges;
}

void ExpertDirectory::CountCompared(int shard, bool differs) {
  std::lock_guard lock(mutex_);
  ++shards_[shard].counters.compared_answers;
  if (differs) ++shards_[shard].counters.differing_answers;
}

ShardCounters ExpertDirectory::counters(int shard) const {
  std::lock_guard lock(mutex_);
  return shards_[shard].counters;
}

}  // namespace orrery
