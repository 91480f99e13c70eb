#include "services/expert/copies.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "model/moe_layers.h"
#include "model/weight_list.h"

namespace orrery {
namespace {

constexpr absl::Duration kPauseAfterFailure = absl::Minutes(1);

}  // namespace

Copies::Copies(const ShardParts& parts, CopiesOptions options, std::atomic<int64_t>* loaded_bytes)
    : parts_(parts), options_(std::move(options)), loaded_bytes_(loaded_bytes) {
  for (const int layer : MoeLayers(parts_.config, parts_.with_mtp)) moe_layers_.insert(layer);
}

Copies::~Copies() { Stop(); }

void Copies::Start(std::function<absl::Status()> prepare) {
  thread_ = std::thread([this, prepare = std::move(prepare)] { Run(prepare); });
}

void Copies::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

bool Copies::Exists(ExpertKey key) const {
  return moe_layers_.count(key.layer) > 0 && key.expert >= 0 &&
         key.expert < parts_.config.num_experts;
}

bool Copies::IsServed(Key key) const {
  return options_.is_served({.layer = key.first, .expert = key.second});
}

bool Copies::IsHeldBefore(Key key) const {
  return options_.is_held_before({.layer = key.first, .expert = key.second});
}

MissingAnswer Copies::Ask(ExpertKey expert, int num_rows) {
  const Key key = {expert.layer, expert.expert};
  std::lock_guard lock(mutex_);
  if (!Exists(expert) || !is_prepared_ || stopping_ || HasFailed(key)) return {};
  // Just now it becomes a slot.
  if (held_.count(key) > 0) return {.state = EntryState::kLoading, .eta_ms = 1};
  const auto place = waiting_.find(key);
  if (place == waiting_.end() && NumKept() >= options_.max_copies) {
    if (!told_no_room_) {
      LogInfo("layer ", key.first, ", expert ", key.second,
              " is not loaded for others: ", NumKept(),
              " experts are, and limits.heir_bytes have room for ", options_.max_copies);
    }
    told_no_room_ = true;
    return {};
  }
  const int asked = waiting_[key] += num_rows;
  changed_.notify_all();
  return {.state = EntryState::kLoading, .eta_ms = EtaMs(asked)};
}

absl::Status Copies::Want(absl::Span<const ExpertKey> keys) {
  std::lock_guard lock(mutex_);
  if (!is_prepared_) return absl::UnavailableError("the shard has not checked its files yet");
  if (stopping_) return absl::UnavailableError("the shard is stopping");
  if (static_cast<int>(keys.size()) > options_.max_copies) {
    return absl::InvalidArgumentError(
        absl::StrCat(keys.size(), " copies are wanted, and limits.heir_bytes have room for ",
                     options_.max_copies));
  }
  std::vector<Key> wanted;
  for (const ExpertKey& key : keys) {
    if (!Exists(key)) {
      return absl::InvalidArgumentError(absl::StrCat("the model has no layer ", key.layer,
                                                     " with an expert ", key.expert,
                                                     ", of which a copy is wanted"));
    }
    if (key.expert >= options_.home.begin && key.expert < options_.home.end) {
      return absl::InvalidArgumentError(
          absl::StrCat("a copy of layer ", key.layer, ", expert ", key.expert,
                       " is wanted where its home is: experts ", options_.home.begin, "-",
                       options_.home.end - 1));
    }
    wanted.emplace_back(key.layer, key.expert);
  }
  wanted_ = std::move(wanted);
  changed_.notify_all();
  return absl::OkStatus();
}

int Copies::NumKept() const {
  int num_kept = 0;
  for (const auto& [key, num_rows] : waiting_)
    num_kept += !held_.contains(key) && !IsHeldBefore(key);
  for (const auto& [key, since] : held_) num_kept += !IsServed(key) && !IsDuplicate(key);
  return num_kept;
}

uint32_t Copies::EtaMs(int num_rows) const {
  int num_before = 0;
  for (const auto& [key, asked] : waiting_) num_before += asked >= num_rows;
  const absl::Duration eta = std::max(num_before, 1) * load_time_;
  return static_cast<uint32_t>(std::clamp<int64_t>(absl::ToInt64Milliseconds(eta), 1, 60'000));
}

std::optional<int> Copies::room() const {
  std::lock_guard lock(mutex_);
  if (!is_prepared_) return std::nullopt;
  return std::max(0, options_.max_copies - NumKept());
}

int Copies::num_held() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(held_.size());
}

int Copies::num_loading() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(
      std::count_if(waiting_.begin(), waiting_.end(),
                    [this](const auto& entry) { return !IsHeldBefore(entry.first); }));
}

void Copies::Run(const std::function<absl::Status()>& prepare) {
  const absl::Status prepared = prepare();
  if (!prepared.ok()) LogWarning("no experts of others: ", prepared.ToString());
  std::unique_lock lock(mutex_);
  is_prepared_ = prepared.ok();
  while (true) {
    changed_.wait(lock,
                  [&] { return stopping_ || NextToLoad().has_value() || Unwanted().has_value(); });
    if (stopping_) return;
    const std::optional<Key> unwanted = waiting_.empty() ? Unwanted() : std::nullopt;
    const std::optional<Key> next = NextToLoad();
    if (unwanted.has_value()) held_.erase(*unwanted);
    lock.unlock();
    if (unwanted.has_value()) {
      options_.drop({.layer = unwanted->first, .expert = unwanted->second});
    } else {
      Load(*next);
    }
    lock.lock();
  }
}

std::optional<Copies::Key> Copies::NextToLoad() const {
  if (!waiting_.empty()) {
    const auto urgency = [this](const auto& waiting) {
      return std::pair(!IsHeldBefore(waiting.first), waiting.second);
    };
    return std::max_element(waiting_.begin(), waiting_.end(),
                            [&](const auto& a, const auto& b) { return urgency(a) < urgency(b); })
        ->first;
  }
  if (!wanted_.has_value() || !HasRoomFor(/*is_asked_for=*/false)) return std::nullopt;
  for (const Key& key : *wanted_) {
    if (held_.count(key) == 0 && !HasFailed(key)) return key;
  }
  return std::nullopt;
}

bool Copies::IsWanted(Key key) const {
  return wanted_.has_value() && std::find(wanted_->begin(), wanted_->end(), key) != wanted_->end();
}

bool Copies::HasStayed(Key key) const { return absl::Now() - held_.at(key) >= options_.min_stay; }

std::optional<Copies::Key> Copies::Oldest(const std::function<bool(Key)>& condition) const {
  std::optional<Key> oldest;
  for (const auto& [key, since] : held_) {
    if (oldest.has_value() && held_.at(*oldest) <= since) continue;
    if (condition(key)) oldest = key;
  }
  return oldest;
}

std::optional<Copies::Key> Copies::Unwanted() const {
  if (!wanted_.has_value()) return std::nullopt;
  return Oldest([this](Key key) { return !IsWanted(key) && HasStayed(key) && IsServed(key); });
}

std::optional<Copies::Key> Copies::Droppable(bool is_asked_for) const {
  std::optional<Key> key = Oldest([this](Key held) { return !IsWanted(held) && IsServed(held); });
  if (!key.has_value()) {
    key = Oldest([this](Key held) { return !IsWanted(held) && IsDuplicate(held); });
  }
  if (!key.has_value() && is_asked_for) {
    key = Oldest([this](Key held) { return IsServed(held) || IsDuplicate(held); });
  }
  return key;
}

bool Copies::HasRoomFor(bool is_asked_for) const {
  return static_cast<int>(held_.size()) < options_.max_copies ||
         Droppable(is_asked_for).has_value();
}

bool Copies::HasFailed(Key key) const {
  const auto failed = failed_until_.find(key);
  return failed != failed_until_.end() && absl::Now() < failed->second;
}

void Copies::Load(Key key) {
  const absl::Time begin = absl::Now();
  std::optional<Key> dropped;
  bool is_asked_for = false, has_room = false;
  {
    std::lock_guard lock(mutex_);
    is_asked_for = waiting_.count(key) > 0;
    if (static_cast<int>(held_.size()) >= options_.max_copies) dropped = Droppable(is_asked_for);
    if (dropped.has_value()) {
      held_.erase(*dropped);
      told_no_room_ = false;
    }
    has_room = static_cast<int>(held_.size()) < options_.max_copies;
  }
  if (dropped.has_value()) options_.drop({.layer = dropped->first, .expert = dropped->second});
  // The home of what was to be dropped may have gone since it was promised.
  absl::StatusOr<FeedForwardWeights> weights =
      has_room ? Read(key) : absl::ResourceExhaustedError("its room is taken");
  if (weights.ok()) {
    {
      std::lock_guard lock(mutex_);
      held_[key] = is_asked_for ? absl::Now() : absl::InfinitePast();
      load_time_ = (load_time_ + (absl::Now() - begin)) / 2;
    }
    options_.hand_over({.layer = key.first, .expert = key.second}, *std::move(weights));
  } else {
    LogWarning("layer ", key.first, ", expert ", key.second,
               " cannot be loaded for others: ", weights.status().ToString());
  }
  std::lock_guard lock(mutex_);
  waiting_.erase(key);
  if (!weights.ok() && has_room) failed_until_[key] = absl::Now() + kPauseAfterFailure;
}

absl::StatusOr<FeedForwardWeights> Copies::Read(Key key) {
  const std::unique_ptr<WeightLoader> loader = parts_.files->MakeLoader(
      &parts_.config, parts_.kernels, parts_.device, parts_.numerics, loaded_bytes_);
  const std::string record = ExpertRecord(key.first, key.second);
  loader->Expect({record});
  return loader->FeedForward(record, parts_.config.hidden_size,
                             parts_.config.moe_intermediate_size);
}

}  // namespace orrery
