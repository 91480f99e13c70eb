#include "services/attention/shard_health.h"

#include <algorithm>

namespace orrery {
namespace {

constexpr double kQuantile = 0.95;
constexpr double kGain = 0.1;
constexpr int kPatienceFactor = 3;
constexpr int kSizeFactor = 8;  // from one size to the next
constexpr absl::Duration kMinProbePause = absl::Milliseconds(100);
constexpr absl::Duration kMaxProbePause = absl::Seconds(5);

}  // namespace

ShardHealth::ShardHealth(int num_peers, const HedgeOptions& options)
    : options_(options), peers_(num_peers), budget_(options.max_saved_entries) {
  for (Peer& peer : peers_) peer.probe_pause = kMinProbePause;
}

int ShardHealth::SizeClass(int num_entries) {
  return num_entries <= 8 ? 0 : num_entries <= 64 ? 1 : num_entries <= 512 ? 2 : 3;
}

absl::Duration ShardHealth::QuantileOf(const Peer& peer, int size_class) {
  for (int size = size_class; size < kNumSizes; ++size) {
    if (peer.quantiles[size] > absl::ZeroDuration()) return peer.quantiles[size];
  }
  int64_t factor = 1;
  for (int size = size_class; --size >= 0;) {
    factor *= kSizeFactor;
    if (peer.quantiles[size] > absl::ZeroDuration()) return factor * peer.quantiles[size];
  }
  return absl::ZeroDuration();
}

absl::Duration ShardHealth::Patience(int peer, int num_entries) const {
  const absl::Duration quantile = QuantileOf(peers_[peer], SizeClass(num_entries));
  if (quantile == absl::ZeroDuration()) return options_.max_patience;
  return std::min(std::max(kPatienceFactor * quantile, options_.min_patience),
                  options_.max_patience);
}

void ShardHealth::OnAsked(int num_entries) {
  budget_ = std::min<double>(budget_ + num_entries * options_.max_hedge_share,
                             options_.max_saved_entries);
}

bool ShardHealth::MayHedge(int num_entries) {
  if (budget_ < num_entries) return false;
  budget_ -= num_entries;
  return true;
}

void ShardHealth::AddSample(absl::Duration& quantile, absl::Duration sample) {
  if (quantile == absl::ZeroDuration()) {
    quantile = std::max(sample, absl::Microseconds(1));
  } else if (sample > quantile) {
    quantile *= 1 + kGain * kQuantile;
  } else {
    quantile *= 1 - kGain * (1 - kQuantile);
  }
}

void ShardHealth::OnAnswered(int peer_index, int num_entries, absl::Duration after) {
  Peer& peer = peers_[peer_index];
  AddSample(peer.quantiles[SizeClass(num_entries)], after);
  if (peer.is_trusted) return;
  peer.probe_pause = kMinProbePause;
  peer.next_probe = absl::InfinitePast();
  if (++peer.num_answers >= kAnswersToTrust) peer.is_trusted = true;
}

void ShardHealth::OnLate(int peer_index, int num_entries, absl::Duration waited, absl::Time now) {
  Peer& peer = peers_[peer_index];
  // One that never answered is no measure of how long answers take.
  absl::Duration& quantile = peer.quantiles[SizeClass(num_entries)];
  if (quantile > absl::ZeroDuration()) AddSample(quantile, waited);
  peer.is_trusted = false;
  peer.num_answers = 0;
  peer.next_probe = now + peer.probe_pause;
}

bool ShardHealth::IsProbeDue(int peer_index, absl::Time now) const {
  const Peer& peer = peers_[peer_index];
  return !peer.is_trusted && now >= peer.next_probe;
}

void ShardHealth::OnProbeSent(int peer_index, absl::Time now) {
  Peer& peer = peers_[peer_index];
  peer.next_probe = now + peer.probe_pause;
  peer.probe_pause = std::min(2 * peer.probe_pause, kMaxProbePause);
}

}  // namespace orrery
