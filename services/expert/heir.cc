#include "services/expert/heir.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "model/moe_layers.h"
#include "model/weight_list.h"

namespace orrery {

Heir::Heir(const ShardParts& parts, HeirOptions options, std::atomic<int64_t>* loaded_bytes)
    : parts_(parts), options_(std::move(options)), loaded_bytes_(loaded_bytes) {
  for (const int layer : MoeLayers(parts_.config, parts_.with_mtp)) moe_layers_.insert(layer);
}

Heir::~Heir() { Stop(); }

void Heir::Start(std::function<absl::Status()> prepare) {
  thread_ = std::thread([this, prepare = std::move(prepare)] { Run(prepare); });
}

void Heir::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

MissingAnswer Heir::Ask(ExpertKey expert, int num_rows) {
  const Key key = {expert.layer, expert.expert};
  const bool exists =
      moe_layers_.count(key.first) > 0 && key.second >= 0 && key.second < parts_.config.num_experts;
  std::lock_guard lock(mutex_);
  if (!exists || !is_prepared_ || stopping_ || failed_.count(key) > 0) return {};
  // Just now it becomes a slot.
  if (inherited_.count(key) > 0) return {.state = EntryState::kLoading, .eta_ms = 1};
  const auto place = waiting_.find(key);
  if (place == waiting_.end() && NumKept() >= options_.max_experts) {
    if (!told_no_room_) {
      LogWarning("layer ", key.first, ", expert ", key.second,
                 " is not loaded for others: ", NumKept(),
                 " experts are, and limits.heir_bytes have room for ", options_.max_experts);
    }
    told_no_room_ = true;
    return {};
  }
  const int asked = waiting_[key] += num_rows;
  changed_.notify_all();
  return {.state = EntryState::kLoading, .eta_ms = EtaMs(asked)};
}

int Heir::NumKept() const {
  int num_kept = static_cast<int>(waiting_.size());
  for (const auto& [layer, expert] : inherited_) {
    if (!options_.is_owned({.layer = layer, .expert = expert})) ++num_kept;
  }
  return num_kept;
}

uint32_t Heir::EtaMs(int num_rows) const {
  int num_before = 0;
  for (const auto& [key, asked] : waiting_) num_before += asked >= num_rows;
  const absl::Duration eta = std::max(num_before, 1) * load_time_;
  return static_cast<uint32_t>(std::clamp<int64_t>(absl::ToInt64Milliseconds(eta), 1, 60'000));
}

std::optional<int> Heir::room() const {
  std::lock_guard lock(mutex_);
  if (!is_prepared_) return std::nullopt;
  return std::max(0, options_.max_experts - NumKept());
}

int Heir::num_inherited() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(inherited_.size());
}

void Heir::Run(const std::function<absl::Status()>& prepare) {
  const absl::Status prepared = prepare();
  if (!prepared.ok()) LogWarning("no experts of others: ", prepared.ToString());
  std::unique_lock lock(mutex_);
  is_prepared_ = prepared.ok();
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const Key key = Hottest();
    lock.unlock();
    Load(key);
    lock.lock();
  }
}

Heir::Key Heir::Hottest() const {
  return std::max_element(waiting_.begin(), waiting_.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

std::optional<Heir::Key> Heir::TakeDroppable() {
  if (static_cast<int>(inherited_.size()) < options_.max_experts) return std::nullopt;
  for (const Key key : inherited_) {
    if (!options_.is_owned({.layer = key.first, .expert = key.second})) continue;
    inherited_.erase(key);
    told_no_room_ = false;
    return key;
  }
  return std::nullopt;
}

void Heir::Load(Key key) {
  const absl::Time begin = absl::Now();
  std::optional<Key> dropped;
  bool has_room = false;
  {
    std::lock_guard lock(mutex_);
    dropped = TakeDroppable();
    has_room = static_cast<int>(inherited_.size()) < options_.max_experts;
  }
  if (dropped.has_value()) options_.drop({.layer = dropped->first, .expert = dropped->second});
  // The owner of what was to be dropped may have gone since it was promised.
  absl::StatusOr<FeedForwardWeights> weights =
      has_room ? Read(key) : absl::ResourceExhaustedError("its room is taken");
  {
    std::lock_guard lock(mutex_);
    waiting_.erase(key);
    if (weights.ok()) {
      inherited_.insert(key);
      load_time_ = (load_time_ + (absl::Now() - begin)) / 2;
    } else if (has_room) {
      failed_.insert(key);
    }
  }
  if (weights.ok()) {
    options_.hand_over({.layer = key.first, .expert = key.second}, *std::move(weights));
  } else {
    LogWarning("layer ", key.first, ", expert ", key.second,
               " cannot be loaded for others: ", weights.status().ToString());
  }
}

absl::StatusOr<FeedForwardWeights> Heir::Read(Key key) {
  const std::unique_ptr<WeightLoader> loader = parts_.files->MakeLoader(
      &parts_.config, parts_.kernels, parts_.device, parts_.numerics, loaded_bytes_);
  const std::string record = ExpertRecord(key.first, key.second);
  loader->Expect({record});
  return loader->FeedForward(record, parts_.config.hidden_size,
                             parts_.config.moe_intermediate_size);
}

}  // namespace orrery
