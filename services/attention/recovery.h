// What is still wanted of one MoE layer's experts, and whom to ask for it: a state machine without
// I/O; time and connections are passed in.
//
//   recovery.Begin({layer, timeout, entries}, now);
//   while (!recovery.done()) {
//     for (PeerEntries& ask : recovery.Next(now, connected)) send it: recovery.OnSent(ticket slot, ask, now);
//     wait for an answer, or until recovery.wake_at();
//     recovery.OnAnswer(ticket slot, report, after, now);
//   }
//
//   wanted --Next--> asked --OnAnswer: done-------------------------> done
//     ^                |  `--Next, past its peer's patience: asked of another holder too, first answer counts
//     `--not done------'
//
// Whom, in this order:
//   1. a holder that is connected, has been answering (services/attention/shard_health.h) and is not
//      draining; then one that is draining; then one that was late before, if it is the only one.
//   2. nobody yet, while a holder may come back at any moment: its connection broke a moment ago, or it
//      lost or refused these rows just now.
//   3. the heir (placement/heirs.h): the shard that is to load it. While it loads, it is asked again when
//      it said; if it declines, the next in order is.
// Late answers are hedged with holders only. But who is late and no longer describes itself has left
// nobody behind who holds its experts: then 3. applies. A heir that is late is loading, or busy, and another
// one that loads the same takes room from others: it is waited for, until it no longer describes itself, or for
// the longest patience.
//
// The deadline is `timeout` after Begin. A heir that loads moves it to twice the time that it asked for,
// at most to twice the timeout.
//
// Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_RECOVERY_H_
#define ORRERY_SERVICES_ATTENTION_RECOVERY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "exchange/exchange.h"
#include "exchange/plan.h"
#include "services/attention/expert_directory.h"
#include "services/attention/shard_health.h"

namespace orrery {

// What is remembered of the shards from one layer to the next, by all that ask them.
struct ShardMemory {
  explicit ShardMemory(int num_shards)
      : connected(num_shards, true),
        down_since(num_shards, absl::InfiniteFuture()),
        failed_until(num_shards, absl::InfinitePast()) {}

  using LayerExpert = std::pair<int, int>;
  struct Loading {
    int peer = 0;
    absl::Time again_at;
  };
  std::vector<bool> connected;           // [num_shards]
  std::vector<absl::Time> down_since;    // [num_shards] InfiniteFuture: it is not
  std::vector<absl::Time> failed_until;  // [num_shards] lost or refused rows
  std::map<LayerExpert, Loading> loading;
  std::map<std::pair<LayerExpert, int>, absl::Time> declined_until;  // by expert and heir
};

class Recovery {
 public:
  struct LayerCall {
    int layer = 0;
    absl::Duration timeout;
    // [num_rows * topk], entry i with result i.
    absl::Span<const DispatchEntry> entries;
  };

  // All outlive it. num_experts: of a layer.
  Recovery(int num_experts, ExpertDirectory* directory, ShardHealth* health, ShardMemory* memory);

  void Begin(const LayerCall& call, absl::Time now);
  // For so long nobody has waited for this layer, nor asked: that is not part of its time.
  void OnPaused(absl::Duration pause);
  // What to ask now, one ask per shard; empty if there is nothing to do but wait.
  std::vector<PeerEntries> Next(absl::Time now, const std::vector<bool>& connected);
  // An ask of Next was sent; `id` names it until its answer. What could not be sent stays wanted.
  void OnSent(uint32_t id, PeerEntries ask, absl::Time now);
  // `report`: the entries that are not done. after: as RankExchange::AnsweredAfter.
  void OnAnswer(uint32_t id, const CombineReport& report, std::optional<absl::Duration> after,
                absl::Time now);

  bool done() const { return num_left_ == 0; }
  bool is_done(const DispatchEntry& entry) const { return progress_[entry.result].is_done; }
  // Whose answer counts, of one that is done; whom it was first asked of, of one that is not, or kNoPeer.
  int peer_of(const DispatchEntry& entry) const { return progress_[entry.result].peer; }
  // When Next has something new to say, if no answer comes before and the directory does not change.
  absl::Time wake_at() const { return wake_at_; }
  absl::Time begin() const { return begin_; }
  absl::Time deadline() const { return deadline_; }
  // Whether all that is wanted is asked of one shard each, and none of them is late: then it is enough to
  // look when all have answered.
  bool is_smooth() const { return is_smooth_; }
  // "layer 3: experts 4-7 have no holder", of those that are not done.
  std::string DescribeLeft() const;

  // The shard to ask ahead for an expert of the layer that only draining shards hold, or kNoPeer: so that
  // it is loaded before they are gone. At most once a second for each expert.
  int PickSuccessor(int expert, absl::Time now, const std::vector<bool>& connected);

 private:
  struct Progress {
    DispatchEntry entry;
    bool is_done = false;
    int peer = kNoPeer;
    int num_asked = 0;  // of how many shards, whose answers are not there yet
    int num_late = 0;   // of those, shards that are late, so that others may be asked
    int hedged_in = 0;  // the round in which another was last named
  };
  struct Ask {
    PeerEntries asked;
    absl::Time sent_at;
    absl::Time late_at;
    bool is_late = false;  // others were asked
  };
  using LayerExpert = ShardMemory::LayerExpert;

  void Observe(absl::Time now, const std::vector<bool>& connected);
  std::vector<PeerEntries> AskFirst(absl::Time now);
  std::vector<PeerEntries> AskBesideLate(absl::Time now);
  // Shards with an ask that nobody answers, [num_shards]; at first none.
  struct Silent {
    explicit Silent(size_t num_shards) : late(num_shards), overdue(num_shards) {}
    std::vector<bool> late;     // past their patience
    std::vector<bool> overdue;  // past any
  };
  // What others may be asked for beside this late ask, and whom.
  std::vector<DispatchEntry> WantedBeside(const Ask& ask, absl::Time now, const Silent& silent);
  void NoteLate(Ask& ask, absl::Time now);
  // By asked expert: peers_[e], or kNoPeer.
  std::vector<PeerEntries> Plan(absl::Span<const DispatchEntry> entries);
  bool IsUsable(int peer, absl::Time now) const;
  // 2. and 3. above, and holders that PickHolders was not told to take. beside: who was asked already, or
  // kNoPeer.
  int PickWhereNoneIsGood(int expert, absl::Time now, const Silent& silent, int beside);
  // Of these, in this order.
  int PickHeir(int expert, const std::vector<int>& heirs, absl::Time now, const Silent& silent,
               int beside);
  bool MayComeBack(int holder, absl::Time now) const;
  void WakeBy(absl::Time time) { wake_at_ = std::min(wake_at_, time); }

  const int num_experts_;
  ExpertDirectory* const directory_;
  ShardHealth* const health_;
  ShardMemory& memory_;

  // Of the layer at hand.
  int layer_ = 0;
  absl::Time begin_;
  absl::Duration timeout_;
  absl::Time deadline_;
  std::vector<Progress> progress_;  // [result]
  int num_left_ = 0;
  std::map<uint32_t, Ask> asks_;
  int round_ = 0;  // counts calls of Next
  absl::Time wake_at_;
  bool is_smooth_ = true;
  std::vector<int> peers_;   // [num_experts] scratch
  std::vector<int> visits_;  // [num_experts] scratch
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_RECOVERY_H_
