// What this rank knows of the shards: who holds which expert and who could load it, written by the
// shard watch and read by the engine's loop; and what that loop counted, for those who ask.
//
//   directory.SetClaim(2, {.held = held, .room = 14});   // watch: shard 2 matches and says this
//   directory.PickHolders(visits, usable, holders);      // loop: one holder per expert, or kNoPeer
//   for (int shard : directory.Heirs(key)) ...           // loop: nobody holds it; who is to load it
//
// A shard that was convicted of a wrong answer (trial.h) is quarantined: nobody's holder and nobody's heir
// until another process answers in its place.
//
// Nor is a shard asked whose connection was made anew, until it has described itself again: another process may be
// there, with another model.
//
// Heirs are named only after every expert has had a holder once, or when AllowHeirs says so: while a
// cluster starts, shards that are still loading are nobody's estate.
//
// Thread-safe.
#ifndef ORRERY_SERVICES_ATTENTION_EXPERT_DIRECTORY_H_
#define ORRERY_SERVICES_ATTENTION_EXPERT_DIRECTORY_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "checkpoint/model_config.h"
#include "placement/heirs.h"
#include "placement/placement.h"
#include "placement/spreader.h"

namespace orrery {

// What a shard that fits says of itself.
struct ShardClaim {
  bool operator==(const ShardClaim&) const = default;

  std::vector<LayerExperts> held;
  // It stops soon: others are asked where they can.
  bool is_draining = false;
  // How many experts of others it may yet load; nullopt until it knows.
  std::optional<int> room = 0;
  // Which ranks have asked it for, and its room does not count any more.
  int num_loading = 0;
  // Of its process.
  uint64_t incarnation = 0;
};

// What the loop found out about a shard, since the start.
struct ShardCounters {
  int64_t hedges = 0;             // it was late, and another holder asked
  int64_t compared_answers = 0;   // another holder gave them too
  int64_t differing_answers = 0;  // and they differed
};

class ExpertDirectory {
 public:
  // with_mtp: the MTP module runs too, and its experts need holders like all others. is_spare: [num_shards], or
  // empty if none is; a spare is missed by nobody.
  ExpertDirectory(const ModelConfig& config, std::vector<std::string> shard_names, bool with_mtp,
                  std::vector<bool> is_spare = {});

  int num_shards() const { return static_cast<int>(shard_names_.size()); }
  const std::string& shard_name(int shard) const { return shard_names_[shard]; }

  // Replaces what the shard said before.
  void SetClaim(int shard, ShardClaim claim);
  // It does not answer, or does not match.
  void SetGone(int shard);
  // The shard's answers say that it holds this one, or does not.
  void Add(int shard, ExpertKey key);
  void Remove(int shard, ExpertKey key);
  void AllowHeirs();

  // Who makes a shard say again what it is and holds, and tells it who is convicted; without one, a shard stays what it
  // said last. `ask` is called from any thread, under this object's lock, and must not block. Null: nobody, as at first.
  void SetAsker(std::function<void(int shard)> ask);
  // How often the connection to the shard was made anew (RankExchange::num_reconnects). With each time another
  // process may be there: it is barred until it has described itself, and asked to.
  void OnReconnects(int shard, int64_t num_reconnects);
  // Not to be asked for anything: quarantined, or not known since its connection was made anew.
  std::vector<bool> Barred() const;

  // The shard gives wrong answers: from here on it counts as gone, whatever it says, until it is another
  // process. Whom it was suspected with no longer is. why: a sentence about it, for people.
  void Quarantine(int shard, std::string why);
  // Its answers and another's differ, and nobody can tell whose are wrong.
  void Suspect(int shard, std::string why);
  std::vector<bool> Quarantined() const;
  // The processes that are, by their incarnation.
  std::vector<uint64_t> Convicted() const;
  // Why it is quarantined or suspected; empty if it is neither.
  std::string Doubt(int shard) const;

  // holders[e] = a shard s with usable[s] that holds expert e of the layer, or kNoPeer, as where no row visits
  // it; [num_experts]. Several holders of one share its load (placement/spreader.h).
  void PickHolders(const LayerVisits& visits, const std::vector<bool>& usable,
                   std::vector<int>& holders);
  bool Holds(int shard, ExpertKey key) const;
  // All of them, ascending.
  std::vector<int> Holders(ExpertKey key) const;
  // Those that may load it, in the order in which they should be asked. or_loading: those too that have no room, and
  // may be loading it for another rank.
  std::vector<int> Heirs(ExpertKey key, bool or_loading = false) const;
  std::vector<bool> Draining() const;
  bool is_any_draining() const;

  // "layers 1-4: experts 4-7 have no holder"; empty when every expert of what runs has one, or heirs load
  // those that have none, or have room for them.
  std::string MissingBeyondHeirs() const;
  // Experts, counted once for each layer, that nobody holds.
  int num_missing() const;
  // What would be missing if max_failed_shards of the shards were gone, in a sentence that says what to
  // do; empty if nothing would, or while a shard has not said what it holds and may load.
  std::string Uncovered(int max_failed_shards) const;

  // Counts changes; WaitForChange returns when it differs from `seen` or the deadline passes.
  uint64_t version() const;
  void WaitForChange(uint64_t seen, absl::Time deadline) const;

  void CountHedge(int shard);
  void CountCompared(int shard, bool differs);
  ShardCounters counters(int shard) const;

 private:
  struct Shard {
    // As it stands in the table; nullopt if it is gone, or if its answers have said otherwise since.
    std::optional<ShardClaim> claim;
    bool is_live = false;
    bool is_draining = false;
    std::optional<int> room;
    int num_loading = 0;
    uint64_t incarnation = 0;
    int64_t num_reconnects = 0;
    bool is_unknown = false;  // since then
    bool is_quarantined = false;
    std::string doubt;
    ShardCounters counters;
  };
  // A sentence that takes a look at every expert, as of a version.
  struct Sentence {
    std::optional<uint64_t> version;
    std::string text;
  };
  std::vector<LayerExperts> MissingExperts() const;  // the lock is held
  std::string DescribeMissingBeyondHeirs() const;    // likewise, as for the next two
  std::string DescribeUncovered(int max_failed_shards) const;
  void Clear(int shard);  // as if it were gone
  void Changed();

  const int num_experts_;
  const std::vector<int> moe_layers_;
  const std::vector<std::string> shard_names_;
  const std::vector<bool> is_spare_;  // [num_shards]
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  // All guarded by mutex_.
  HolderTable holders_;
  Spreader spreader_;
  std::vector<Shard> shards_;
  bool heirs_allowed_ = false;
  std::function<void(int shard)> ask_;
  uint64_t version_ = 0;
  mutable Sentence missing_;
  mutable Sentence uncovered_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_EXPERT_DIRECTORY_H_
