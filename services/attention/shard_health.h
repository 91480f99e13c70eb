// How the shards have been answering, and what follows from it: when to ask another holder beside a
// late one, which shards to spare, and when to try those again. A state machine without I/O; the time
// is passed in.
//
//   absl::Duration patience = health.Patience(peer, num_entries);  // ask another holder after that
//   if (health.MayHedge(num_entries)) ...                          // within the budget
//   health.OnAnswered(peer, num_entries, after);
//   health.OnLate(peer, num_entries, waited, now);                       // somebody else was asked instead
//   if (health.IsProbeDue(peer, now)) ... health.OnProbeSent(peer, now);
//
//              OnLate                             kAnswersToTrust times OnAnswered in a row
//   trusted -----------> spared: asked only for what nobody else holds, and probed -----> trusted
//
// Patience: three times the 95th percentile of the peer's recent reply times to asks of that size (up to
// 8, 64, 512 entries, or more: a prompt takes longer than a token), and within min_patience and
// max_patience. The percentile is estimated by one number that each sample
// moves (a decayed quantile): up by a tenth of 0.95 of itself when the sample is above, down by a tenth of
// 0.05 when it is below, so that it rests where one of twenty samples is above. It doubles within 8
// slow answers, and halves within 140 fast ones. A size that it has not answered yet is guessed from those
// that it has: a smaller ask takes no longer, a larger one at most as many times longer as it is larger. A shard
// that never answered yet has max_patience.
//
// Budget: each entry that is asked for earns max_hedge_share of an entry that may be asked for twice;
// at most max_saved_entries are saved up. So one shard that stalls costs its patience once, and a
// cluster in which all are slow is asked for little more than without hedges. After max_patience the
// budget does not count: then it is not haste but repair.
//
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_SHARD_HEALTH_H_
#define ORRERY_SERVICES_ATTENTION_SHARD_HEALTH_H_

#include <array>
#include <vector>

#include "absl/time/time.h"

namespace orrery {

struct HedgeOptions {
  absl::Duration min_patience = absl::Milliseconds(50);
  absl::Duration max_patience = absl::Seconds(7.5);
  double max_hedge_share = 0.05;
  int max_saved_entries = 2048;  // 256 rows, 8 experts each: one layer of a step
};

class ShardHealth {
 public:
  // Answers in a row until a shard that was late is asked as before.
  static constexpr int kAnswersToTrust = 3;

  ShardHealth(int num_peers, const HedgeOptions& options);

  absl::Duration Patience(int peer, int num_entries) const;
  absl::Duration max_patience() const { return options_.max_patience; }
  bool is_trusted(int peer) const { return peers_[peer].is_trusted; }

  // Entries were asked for, by a first dispatch.
  void OnAsked(int num_entries);
  // Whether so many may be asked for twice now; if so, they are paid for.
  bool MayHedge(int num_entries);

  void OnAnswered(int peer, int num_entries, absl::Duration after);
  // It had not answered after `waited`, and others are asked.
  void OnLate(int peer, int num_entries, absl::Duration waited, absl::Time now);

  // A probe is one row more than needed, whose answer nobody waits for. Due while a peer is spared:
  // soon after an answer, less and less often while it stays silent.
  bool IsProbeDue(int peer, absl::Time now) const;
  void OnProbeSent(int peer, absl::Time now);

 private:
  static constexpr int kNumSizes = 4;
  struct Peer {
    std::array<absl::Duration, kNumSizes> quantiles = {};  // by size; zero: no answer yet
    bool is_trusted = true;
    int num_answers = 0;  // since it was late
    absl::Duration probe_pause;
    absl::Time next_probe = absl::InfinitePast();
  };
  static int SizeClass(int num_entries);
  // The percentile of the size, known or guessed; zero if the peer never answered.
  static absl::Duration QuantileOf(const Peer& peer, int size_class);
  static void AddSample(absl::Duration& quantile, absl::Duration sample);

  const HedgeOptions options_;
  std::vector<Peer> peers_;
  double budget_ = 0;  // entries
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SHARD_HEALTH_H_
