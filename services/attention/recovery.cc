#include "services/attention/recovery.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace orrery {
namespace {

// How long a layer that can do nothing waits before it looks around again.
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
// A shard that lost or refused rows gets this long before it is asked again.
constexpr absl::Duration kRetryPause = absl::Milliseconds(20);
// A connection that broke gets this long before its shard counts as gone: several attempts to connect
// (exchange/grpc/grpc_rank.h), while a heir would need longer for its first expert.
constexpr absl::Duration kReconnectTime = absl::Milliseconds(500);
// A heir that declined has no room, or not the files: neither changes soon.
constexpr absl::Duration kDeclinedTime = absl::Seconds(2);
constexpr absl::Duration kMinLoadingTime = absl::Milliseconds(1);
constexpr absl::Duration kMaxLoadingTime = absl::Seconds(1);
constexpr absl::Duration kSuccessorPause = absl::Seconds(1);

}  // namespace

Recovery::Recovery(int num_experts, ExpertDirectory* directory, ShardHealth* health,
                   ShardMemory* memory)
    : num_experts_(num_experts),
      directory_(directory),
      health_(health),
      memory_(*memory),
      peers_(num_experts, kNoPeer),
      visits_(num_experts) {}

void Recovery::Begin(const LayerCall& call, absl::Time now) {
  layer_ = call.layer;
  begin_ = now;
  timeout_ = call.timeout;
  deadline_ = now + call.timeout;
  progress_.clear();
  for (const DispatchEntry& entry : call.entries) progress_.push_back({.entry = entry});
  num_left_ = static_cast<int>(progress_.size());
  asks_.clear();
  health_->OnAsked(num_left_);
}

void Recovery::OnPaused(absl::Duration pause) {
  begin_ += pause;
  deadline_ += pause;
}

void Recovery::Observe(absl::Time now, const std::vector<bool>& connected) {
  memory_.connected = connected;
  for (size_t peer = 0; peer < connected.size(); ++peer) {
    if (connected[peer]) {
      memory_.down_since[peer] = absl::InfiniteFuture();
    } else if (memory_.down_since[peer] == absl::InfiniteFuture()) {
      memory_.down_since[peer] = now;
    }
  }
}

std::vector<PeerEntries> Recovery::Next(absl::Time now, const std::vector<bool>& connected) {
  Observe(now, connected);
  ++round_;
  wake_at_ = deadline_;
  is_smooth_ = true;
  std::vector<PeerEntries> asks = AskFirst(now);
  std::vector<PeerEntries> hedges = AskBesideLate(now);
  asks.insert(asks.end(), std::make_move_iterator(hedges.begin()),
              std::make_move_iterator(hedges.end()));
  return asks;
}

bool Recovery::IsUsable(int peer, absl::Time now) const {
  return memory_.connected[peer] && memory_.failed_until[peer] <= now;
}

std::vector<PeerEntries> Recovery::AskFirst(absl::Time now) {
  std::vector<DispatchEntry> wanted;
  for (const Progress& progress : progress_) {
    if (!progress.is_done && progress.num_asked == 0) wanted.push_back(progress.entry);
  }
  if (wanted.empty()) return {};
  std::vector<bool> good = directory_->Draining();
  for (int peer = 0; peer < directory_->num_shards(); ++peer) {
    good[peer] = !good[peer] && IsUsable(peer, now) && health_->is_trusted(peer);
  }
  std::fill(visits_.begin(), visits_.end(), 0);
  for (const DispatchEntry& entry : wanted) ++visits_[entry.expert];
  directory_->PickHolders({.layer = layer_, .rows = visits_}, good, peers_);
  std::vector<bool> is_looked_up(num_experts_);  // many rows ask for the same one
  const Silent nobody(good.size());
  for (const DispatchEntry& entry : wanted) {
    if (peers_[entry.expert] != kNoPeer || is_looked_up[entry.expert]) continue;
    is_looked_up[entry.expert] = true;
    peers_[entry.expert] = PickWhereNoneIsGood(entry.expert, now, nobody, kNoPeer);
    if (peers_[entry.expert] == kNoPeer) WakeBy(now + kLookInterval);
  }
  return Plan(wanted);
}

std::vector<PeerEntries> Recovery::AskBesideLate(absl::Time now) {
  Silent silent(memory_.connected.size());
  const auto is_overdue = [&](const Ask& ask) {
    return now - ask.sent_at >= health_->max_patience();
  };
  for (const auto& [id, ask] : asks_) {
    if (now >= ask.late_at) {
      silent.late[ask.asked.peer] = true;
      if (is_overdue(ask)) silent.overdue[ask.asked.peer] = true;
      is_smooth_ = false;
      WakeBy(now + kLookInterval);
    } else {
      WakeBy(ask.late_at);
    }
  }
  std::vector<PeerEntries> hedges;
  if (is_smooth_) return hedges;
  for (auto& [id, ask] : asks_) {
    if (now < ask.late_at) continue;
    const std::vector<DispatchEntry> wanted = WantedBeside(ask, now, silent);
    if (wanted.empty() ||
        (!is_overdue(ask) && !health_->MayHedge(static_cast<int>(wanted.size())))) {
      continue;
    }
    if (!ask.is_late) NoteLate(ask, now);
    std::vector<PeerEntries> more = Plan(wanted);
    hedges.insert(hedges.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
  }
  return hedges;
}

std::vector<DispatchEntry> Recovery::WantedBeside(const Ask& ask, absl::Time now,
                                                  const Silent& silent) {
  std::fill(peers_.begin(), peers_.end(), kNoPeer);
  std::vector<bool> is_looked_up(num_experts_);
  std::vector<DispatchEntry> wanted;
  for (const DispatchEntry& entry : ask.asked.entries) {
    Progress& progress = progress_[entry.result];
    const int num_fresh = progress.num_asked - progress.num_late - (ask.is_late ? 0 : 1);
    if (progress.is_done || num_fresh > 0 || progress.hedged_in == round_) continue;
    if (!is_looked_up[entry.expert]) {
      is_looked_up[entry.expert] = true;
      peers_[entry.expert] = PickWhereNoneIsGood(entry.expert, now, silent, ask.asked.peer);
    }
    if (peers_[entry.expert] == kNoPeer) continue;
    progress.hedged_in = round_;
    wanted.push_back(entry);
  }
  return wanted;
}

void Recovery::NoteLate(Ask& ask, absl::Time now) {
  ask.is_late = true;
  for (const DispatchEntry& entry : ask.asked.entries) ++progress_[entry.result].num_late;
  health_->OnLate(ask.asked.peer, static_cast<int>(ask.asked.entries.size()), now - ask.sent_at,
                  now);
  directory_->CountHedge(ask.asked.peer);
}

std::vector<PeerEntries> Recovery::Plan(absl::Span<const DispatchEntry> entries) {
  return PlanEntries(entries, peers_).dispatch;
}

int Recovery::PickWhereNoneIsGood(int expert, absl::Time now, const Silent& silent, int beside) {
  const std::vector<int> holders = directory_->Holders({.layer = layer_, .expert = expert});
  int spared = kNoPeer;
  for (size_t i = 0; i < holders.size(); ++i) {
    // As HolderTable::Pick: replicas of many experts share the load.
    const int peer = holders[(static_cast<size_t>(expert) + i) % holders.size()];
    if (silent.late[peer] || !IsUsable(peer, now)) continue;
    if (health_->is_trusted(peer)) return peer;
    if (spared == kNoPeer) spared = peer;
  }
  if (spared != kNoPeer) return spared;
  for (const int holder : holders) {
    if (MayComeBack(holder, now)) return kNoPeer;
  }
  const ExpertKey key = {.layer = layer_, .expert = expert};
  return PickHeir(expert, directory_->Heirs(key, /*or_loading=*/true), now, silent, beside);
}

bool Recovery::MayComeBack(int holder, absl::Time now) const {
  if (memory_.connected[holder]) return true;  // it is late, or has failed just now
  return now - memory_.down_since[holder] < kReconnectTime;
}

int Recovery::PickHeir(int expert, const std::vector<int>& heirs, absl::Time now,
                       const Silent& silent, int beside) {
  const auto may_answer = [&](int peer) {
    return IsUsable(peer, now) && !silent.overdue[peer] &&
           (!silent.late[peer] || std::find(heirs.begin(), heirs.end(), peer) != heirs.end());
  };
  if (beside != kNoPeer && may_answer(beside) && silent.late[beside]) return kNoPeer;
  const auto loading = memory_.loading.find({layer_, expert});
  if (loading != memory_.loading.end() && may_answer(loading->second.peer)) {
    if (silent.late[loading->second.peer]) return kNoPeer;
    if (now >= loading->second.again_at) return loading->second.peer;
    WakeBy(loading->second.again_at);
    return kNoPeer;
  }
  for (const int heir : heirs) {
    if (silent.overdue[heir] || !IsUsable(heir, now)) continue;
    const auto declined = memory_.declined_until.find({{layer_, expert}, heir});
    if (declined == memory_.declined_until.end() || declined->second <= now) return heir;
  }
  return kNoPeer;
}

int Recovery::PickSuccessor(int expert, absl::Time now, const std::vector<bool>& connected) {
  Observe(now, connected);
  const std::vector<bool> draining = directory_->Draining();
  for (const int holder : directory_->Holders({.layer = layer_, .expert = expert})) {
    if (!draining[holder]) return kNoPeer;
  }
  const std::vector<int> heirs = directory_->Heirs({.layer = layer_, .expert = expert});
  const int heir = PickHeir(expert, heirs, now, Silent(memory_.connected.size()), kNoPeer);
  if (heir != kNoPeer) {
    memory_.loading[{layer_, expert}] = {.peer = heir, .again_at = now + kSuccessorPause};
  }
  return heir;
}

void Recovery::OnSent(uint32_t id, PeerEntries ask, absl::Time now) {
  ORRERY_CHECK(asks_.count(id) == 0) << "ask " << id << " is open";
  for (const DispatchEntry& entry : ask.entries) {
    Progress& progress = progress_[entry.result];
    if (progress.num_asked++ == 0) progress.peer = ask.peer;
  }
  const absl::Time late_at =
      now + health_->Patience(ask.peer, static_cast<int>(ask.entries.size()));
  WakeBy(late_at);
  asks_[id] = {.asked = std::move(ask), .sent_at = now, .late_at = late_at};
}

void Recovery::OnAnswer(uint32_t id, const CombineReport& report,
                        std::optional<absl::Duration> after, absl::Time now) {
  const auto place = asks_.find(id);
  ORRERY_CHECK(place != asks_.end()) << "ask " << id << " is not open";
  const Ask ask = std::move(place->second);
  const PeerEntries& asked = ask.asked;
  asks_.erase(place);
  if (after.has_value())
    health_->OnAnswered(asked.peer, static_cast<int>(asked.entries.size()), *after);

  std::vector<bool> is_not_done(progress_.size());
  for (const EntryOutcome& outcome : report) {
    is_not_done[outcome.entry.result] = true;
    const ExpertKey key = {.layer = layer_, .expert = outcome.entry.expert};
    const LayerExpert expert = {key.layer, key.expert};
    switch (outcome.state) {
      case EntryState::kNotHeld:
        directory_->Remove(asked.peer, key);
        memory_.loading.erase(expert);
        memory_.declined_until[{expert, asked.peer}] = now + kDeclinedTime;
        break;
      case EntryState::kLoading: {
        const absl::Duration eta = absl::Milliseconds(outcome.eta_ms);
        directory_->Remove(asked.peer, key);
        memory_.loading[expert] = {
            .peer = asked.peer,
            .again_at = now + std::clamp(eta, kMinLoadingTime, kMaxLoadingTime)};
        deadline_ = std::min(std::max(deadline_, now + 2 * eta), begin_ + 2 * timeout_);
        break;
      }
      default:
        memory_.failed_until[asked.peer] = now + kRetryPause;
    }
  }
  for (const DispatchEntry& entry : asked.entries) {
    Progress& progress = progress_[entry.result];
    --progress.num_asked;
    if (ask.is_late) --progress.num_late;
    if (is_not_done[entry.result] || progress.is_done) continue;
    progress.is_done = true;
    progress.peer = asked.peer;
    --num_left_;
    const auto loading = memory_.loading.find({layer_, entry.expert});
    if (loading == memory_.loading.end() || loading->second.peer != asked.peer) continue;
    // It was loaded for us, and will be said so.
    directory_->Add(asked.peer, {.layer = layer_, .expert = entry.expert});
    memory_.loading.erase(loading);
  }
}

std::string Recovery::DescribeLeft() const {
  LayerExperts left = {.layer = layer_, .experts = {}};
  for (const Progress& progress : progress_) {
    if (!progress.is_done) left.experts.push_back(progress.entry.expert);
  }
  std::sort(left.experts.begin(), left.experts.end());
  left.experts.erase(std::unique(left.experts.begin(), left.experts.end()), left.experts.end());
  return DescribeMissing({&left, 1});
}

}  // namespace orrery
