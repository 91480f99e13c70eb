#include "tests/simulation/recovery_world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "exchange/plan.h"

namespace orrery {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);
constexpr absl::Duration kLoadTime = absl::Milliseconds(60);
constexpr uint32_t kEtaMs = 50;
// The longest that a layer may stall: with a second holder, beyond the patience; and without.
// A shard that stands still is missed after 2.4 seconds, when it next does not describe itself; then its
// heir loads.
constexpr absl::Duration kMaxHedgedStall = absl::Milliseconds(50);
constexpr absl::Duration kMaxLoadStall = absl::Seconds(4);

ModelConfig Config(const RecoveryWorldSpec& spec) {
  ModelConfig config;
  config.num_layers = spec.num_moe_layers;
  config.layer_is_moe.assign(spec.num_moe_layers, true);
  config.num_experts = spec.num_experts;
  return config;
}

bool Contains(const ExpertRange& range, int expert) {
  return range.begin <= expert && expert < range.end;
}

std::vector<std::string> Names(int num_shards) {
  std::vector<std::string> names;
  for (int i = 0; i < num_shards; ++i) names.push_back(absl::StrCat("expert-", i));
  return names;
}

}  // namespace

RecoveryWorld::RecoveryWorld(EventLoop& loop, const RecoveryWorldSpec& spec)
    : loop_(loop),
      spec_(spec),
      directory_(Config(spec), Names(spec.num_shards), /*with_mtp=*/false),
      health_(spec.num_shards, spec.hedge),
      memory_(directory_.num_shards()),
      recovery_(spec.num_experts, &directory_, &health_, &memory_),
      shards_(spec.num_shards),
      connected_(spec.num_shards, true) {
  const std::vector<ExpertRange> placement =
      DefaultPlacement({.num_experts = spec.num_experts, .num_shards = spec.num_shards});
  for (int s = 0; s < spec.num_shards; ++s) {
    shards_[s].own.resize(spec.num_experts);
    const ExpertRange second = placement[(s + 1) % spec.num_shards];
    for (int expert = 0; expert < spec.num_experts; ++expert) {
      shards_[s].own[expert] =
          Contains(placement[s], expert) || (spec.is_doubled && Contains(second, expert));
    }
  }
  for (int s = 0; s < spec.num_shards; ++s) Poll(s);
}

int64_t RecoveryWorld::num_hedges() const {
  int64_t num_hedges = 0;
  for (int s = 0; s < spec_.num_shards; ++s) num_hedges += directory_.counters(s).hedges;
  return num_hedges;
}

bool RecoveryWorld::Holds(const Shard& shard, Key key) {
  return shard.own[key.second] || shard.inherited.count(key) > 0;
}

bool RecoveryWorld::IsOwned(int expert) const {
  return std::any_of(shards_.begin(), shards_.end(), [expert](const Shard& shard) {
    return shard.is_up && !shard.is_draining && shard.own[expert];
  });
}

int RecoveryWorld::Room(const Shard& shard) const {
  int num_kept = static_cast<int>(shard.loading.size());
  for (const Key& key : shard.inherited) num_kept += !IsOwned(key.second);
  const int num_own = spec_.num_moe_layers * spec_.num_experts / spec_.num_shards;
  return NeededRoom(num_own, spec_.num_shards, 1) + spec_.num_moe_layers - num_kept;
}

// As MemberWatch does: what the rank hears is up to two seconds old.
void RecoveryWorld::Poll(int s) {
  const Shard& shard = shards_[s];
  if (shard.is_up && !shard.is_stalled) {
    ShardClaim claim = {.held = {},
                        .is_draining = shard.is_draining,
                        .room = Room(shard),
                        .num_loading = static_cast<int>(shard.loading.size())};
    for (int layer = 0; layer < spec_.num_moe_layers; ++layer) {
      claim.held.push_back({.layer = layer, .experts = {}});
      for (int expert = 0; expert < spec_.num_experts; ++expert) {
        if (Holds(shard, {layer, expert})) claim.held.back().experts.push_back(expert);
      }
    }
    directory_.SetClaim(s, std::move(claim));
  } else {
    directory_.SetGone(s);
  }
  if (layer_ >= spec_.num_layers) return;
  loop_.After(loop_.Between(absl::Milliseconds(400), absl::Milliseconds(2400)),
              [this, s] { Poll(s); });
}

void RecoveryWorld::Run() {
  BeginLayer();
  while (layer_ < spec_.num_layers && promises_.broken().empty() && loop_.RunOne()) {
  }
  promises_.Expect(layer_ == spec_.num_layers, "it does not go on");
}

void RecoveryWorld::BeginLayer() {
  // Who never answered is waited for longest, so first all do.
  const bool have_answered = std::all_of(shards_.begin(), shards_.end(),
                                         [](const Shard& shard) { return shard.has_answered; });
  if (have_answered && !is_in_trouble_ && loop_.Happens(spec_.trouble)) MakeTrouble();
  entries_.clear();
  std::set<int> chosen;
  while (static_cast<int>(chosen.size()) < spec_.topk) {
    chosen.insert(static_cast<int>(loop_.Below(spec_.num_experts)));
  }
  for (const int expert : chosen) {
    entries_.push_back(
        {.row = 0, .expert = expert, .result = static_cast<int32_t>(entries_.size())});
  }
  answered_.assign(entries_.size(), false);
  layer_begin_ = loop_.Now();
  recovery_.Begin(
      {.layer = layer_ % spec_.num_moe_layers, .timeout = kTimeout, .entries = entries_},
      loop_.Now());
  Pump();
}

void RecoveryWorld::Pump() {
  if (loop_.Now() >= recovery_.deadline()) {
    return promises_.Break(absl::StrCat("timed out: ", recovery_.DescribeLeft()));
  }
  for (PeerEntries& asked : recovery_.Next(loop_.Now(), connected_)) {
    const uint32_t id = next_ask_++;
    asks_[id] = {.peer = asked.peer, .life = shards_[asked.peer].life, .entries = asked.entries};
    of_layer_.insert(id);
    recovery_.OnSent(id, std::move(asked), loop_.Now());
    loop_.After(loop_.Between(absl::Microseconds(100), absl::Milliseconds(2)),
                [this, id] { OnArrival(id); });
  }
  // Every pump says anew when the next one is due.
  loop_.At(recovery_.wake_at(), [this, number = ++num_pumps_] {
    if (number == num_pumps_) Pump();
  });
}

void RecoveryWorld::OnArrival(uint32_t id) {
  const Ask& ask = asks_.at(id);
  Shard& shard = shards_[ask.peer];
  if (shard.life != ask.life || !shard.is_up) return Lose(id);
  if (shard.is_stalled) {
    shard.unanswered.push_back(id);
  } else {
    Answer(id);
  }
}

EntryState RecoveryWorld::StateOf(Shard& shard, Key key) {
  if (Holds(shard, key)) return EntryState::kDone;
  if (shard.loading.count(key) > 0) return EntryState::kLoading;
  if (shard.is_draining || Room(shard) <= 0) return EntryState::kNotHeld;
  for (const Shard& other : shards_) {
    promises_.Expect(!other.is_up || other.is_stalled || other.loading.count(key) == 0, "expert ",
                     key.second, " is loaded twice");
  }
  shard.loading.insert(key);
  ++num_loaded_;
  loop_.After(kLoadTime, [this, &shard, key, life = shard.life] {
    if (shard.life != life) return;
    shard.loading.erase(key);
    MakeRoom(shard);
    shard.inherited.insert(key);
  });
  return EntryState::kLoading;
}

// It drops what its owner serves again.
void RecoveryWorld::MakeRoom(Shard& shard) {
  if (Room(shard) > 0) return;
  const auto owned = std::find_if(shard.inherited.begin(), shard.inherited.end(),
                                  [this](const Key& key) { return IsOwned(key.second); });
  if (owned != shard.inherited.end()) shard.inherited.erase(owned);
}

void RecoveryWorld::Answer(uint32_t id) {
  Ask& ask = asks_.at(id);
  CombineReport report;
  for (const DispatchEntry& entry : ask.entries) {
    const EntryState state =
        of_layer_.count(id) == 0  // nobody waits for it any more
            ? EntryState::kDone
            : StateOf(shards_[ask.peer], {layer_ % spec_.num_moe_layers, entry.expert});
    if (state == EntryState::kDone) {
      if (of_layer_.count(id) > 0) answered_[entry.result] = true;
      continue;
    }
    report.push_back({.peer = ask.peer, .entry = entry, .state = state, .eta_ms = kEtaMs});
  }
  Finish(id, report, /*is_answered=*/true);
}

void RecoveryWorld::Lose(uint32_t id) {
  CombineReport report;
  for (const DispatchEntry& entry : asks_.at(id).entries) {
    report.push_back({.peer = asks_.at(id).peer, .entry = entry, .state = EntryState::kLost});
  }
  Finish(id, report, /*is_answered=*/false);
}

void RecoveryWorld::Finish(uint32_t id, const CombineReport& report, bool is_answered) {
  const int peer = asks_.at(id).peer;
  asks_.erase(id);
  if (is_answered) shards_[peer].has_answered = true;
  const absl::Duration after = loop_.Now() - layer_begin_;
  if (of_layer_.erase(id) == 0) {  // as SecondAnswers does
    if (is_answered) health_.OnAnswered(peer, 1, absl::Milliseconds(1));
    return;
  }
  std::optional<absl::Duration> answered_after;
  if (is_answered) answered_after = after;
  recovery_.OnAnswer(id, report, answered_after, loop_.Now());
  recovery_.done() ? EndLayer(after) : Pump();
}

void RecoveryWorld::EndLayer(absl::Duration stall) {
  longest_stall_ = std::max(longest_stall_, stall);
  promises_.Expect(std::find(answered_.begin(), answered_.end(), false) == answered_.end(),
                   "it is done, but a shard has not answered for it");
  const absl::Duration limit =
      spec_.is_doubled ? spec_.hedge.min_patience + kMaxHedgedStall : kMaxLoadStall;
  if (stall > limit) promises_.Break(absl::StrCat("it stalled for ", absl::FormatDuration(stall)));
  promises_.Expect(num_troubles_ > 0 || num_hedges() + num_loaded_ == 0,
                   "an expert was asked for twice or loaded while all was well");
  of_layer_.clear();
  ++num_pumps_;  // nobody waits for the next one
  if (++layer_ < spec_.num_layers) {
    loop_.After(loop_.Between(absl::Milliseconds(1), spec_.max_pause), [this] { BeginLayer(); });
  }
}

void RecoveryWorld::MakeTrouble() {
  is_in_trouble_ = true;
  ++num_troubles_;
  const int s = static_cast<int>(loop_.Below(spec_.num_shards));
  Shard& shard = shards_[s];
  const absl::Duration length = loop_.Between(absl::Milliseconds(100), absl::Seconds(8));
  switch (loop_.Below(3)) {
    case 0:
      Crash(s);
      break;
    case 1:
      shard.is_stalled = true;
      break;
    case 2:  // it drains, and then it is gone
      shard.is_draining = true;
      loop_.After(absl::Seconds(4), [this, s] { Crash(s); });
      loop_.After(absl::Seconds(4) + length, [this, s] { Return(s); });
      return;
  }
  loop_.After(length, [this, s] { Return(s); });
}

void RecoveryWorld::Crash(int s) {
  Shard& shard = shards_[s];
  shard.is_up = false;
  shard.is_draining = false;
  shard.inherited.clear();
  shard.loading.clear();
  ++shard.life;
  connected_[s] = false;
}

void RecoveryWorld::Return(int s) {
  Shard& shard = shards_[s];
  shard.is_up = true;
  shard.is_stalled = false;
  connected_[s] = true;
  for (const uint32_t id : std::exchange(shard.unanswered, {})) Answer(id);
  // The rank hears of it within moments, and then the next trouble may come.
  loop_.After(absl::Seconds(5), [this] { is_in_trouble_ = false; });
}

}  // namespace orrery
