// Experts that a shard holds though their home is elsewhere: those of shards that are gone, whose heir it is,
// and then copies of hot ones, which the balancer wants.
//
//   Copies copies(parts, {.max_copies = 40, .home = {0, 4}}, &loaded_bytes);
//   shard->SetHeir([&](ExpertKey key, int num_rows) { return copies.Ask(key, num_rows); });
//   copies.Start(prepare);
//   RETURN_IF_ERROR(copies.Want({{.layer = 3, .expert = 9}}));     // the whole list, again and again
//
//             Ask                       loaded                     see below, and its home serves it
//   unknown -------> waiting, loading ----------> handed over --------------------------------> unknown
//    |  `-- Ask, no room, or it cannot be loaded: kNotHeld, the rank asks the next in order
//    `-- Want, while there is room, and nobody waits
//
// Ranks agree on whom to ask (placement/heirs.h); here it is only loaded once, those first for which most
// rows have asked, and within max_copies, those that wait included. Then what is wanted is loaded, in its order.
//
// Ranks do not agree always, so that two shards may load one expert. Then the one that stands later in their order
// counts it no more: it makes way for another one.
//
// A rank may not see a shard that is seen from here. So what ranks have asked for stays for min_stay, whoever else
// has it, unless one that is at home elsewhere has to make way.
//
// What was handed over goes when it is wanted no more, once a list came, if is_served says that the shard whose
// home it has serves it; or when others need the room, then also if is_held_before says that a
// shard that stands earlier in their order holds it; what is wanted goes last, and only for what ranks ask for. A home never drops its own, and of
// shards that have loaded the same the first one does not look at the others: so the last live copy is not dropped,
// whatever others do at the same time.
//
// Threads: one of its own loads; the methods may be called from any. hand_over, drop and prepare are
// called from the loading thread, is_served and is_held_before from any, under its lock.
#ifndef ORRERY_SERVICES_EXPERT_COPIES_H_
#define ORRERY_SERVICES_EXPERT_COPIES_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "services/expert/shard.h"

namespace orrery {

struct CopiesOptions {
  int max_copies = 0;
  ExpertRange home;  // of the shard itself
  // Whether the shard whose home the expert has serves it now.
  std::function<bool(ExpertKey)> is_served = [](ExpertKey) { return false; };
  // Whether a shard that ranks ask before this one has loaded it too.
  std::function<bool(ExpertKey)> is_held_before = [](ExpertKey) { return false; };
  absl::Duration min_stay = absl::Seconds(5);
  std::function<void(ExpertKey, FeedForwardWeights)> hand_over;
  std::function<void(ExpertKey)> drop;
};

class Copies {
 public:
  // parts: kernels and stream of its own, as the shard's are busy; files, which must stay. All outlive it.
  Copies(const ShardParts& parts, CopiesOptions options, std::atomic<int64_t>* loaded_bytes);
  ~Copies();

  // `prepare` is run first, and with an error nothing is ever loaded. Once.
  void Start(std::function<absl::Status()> prepare);
  // Ends with what is being loaded. Idempotent.
  void Stop();

  MissingAnswer Ask(ExpertKey key, int num_rows);
  // Replaces what was wanted before. INVALID_ARGUMENT (more than max_copies, an expert that the model does not
  // have, or one that is at home here), UNAVAILABLE (not prepared, or stopped).
  absl::Status Want(absl::Span<const ExpertKey> keys);
  // How many more it would load, those included that it could drop; nullopt until it is prepared.
  std::optional<int> room() const;
  int num_held() const;
  // Of those that ranks have asked for: not handed over yet, and not in room() any more.
  int num_loading() const;

 private:
  using Key = std::pair<int, int>;  // (layer, expert)

  void Run(const std::function<absl::Status()>& prepare);
  void Load(Key key);
  absl::StatusOr<FeedForwardWeights> Read(Key key);
  // The lock is held for all that follow.
  bool Exists(ExpertKey key) const;
  bool IsServed(Key key) const;
  bool IsHeldBefore(Key key) const;
  // Lately; it may be the disk's, and pass.
  bool HasFailed(Key key) const;
  // Who goes first of those that wait; then what is wanted and not here, if there is room.
  std::optional<Key> NextToLoad() const;
  bool IsWanted(Key key) const;
  // Of what is here. Not so of what ranks have asked for lately.
  bool HasStayed(Key key) const;
  bool IsDuplicate(Key key) const { return HasStayed(key) && IsHeldBefore(key); }
  // What is here, wanted no more, and served by its home.
  std::optional<Key> Unwanted() const;
  // Of what is here and meets the condition, what has been here for longest.
  std::optional<Key> Oldest(const std::function<bool(Key)>& condition) const;
  // What may go, if there is no room without, for one that ranks ask for, or that is only wanted.
  std::optional<Key> Droppable(bool is_asked_for) const;
  bool HasRoomFor(bool is_asked_for) const;
  int NumKept() const;
  uint32_t EtaMs(int num_rows) const;

  const ShardParts parts_;
  const CopiesOptions options_;
  std::atomic<int64_t>* const loaded_bytes_;
  std::set<int> moe_layers_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  bool is_prepared_ = false;
  bool stopping_ = false;
  bool told_no_room_ = false;
  // Rows that asked; that of what is being loaded for them included, until it was handed over.
  std::map<Key, int> waiting_;
  // In order; nullopt until the first list.
  std::optional<std::vector<Key>> wanted_;
  std::map<Key, absl::Time> held_;          // since when; InfinitePast if no rank asked for it
  std::map<Key, absl::Time> failed_until_;  // not tried again before that
  absl::Duration load_time_ = absl::Milliseconds(100);  // of one expert, lately
  std::thread thread_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_COPIES_H_
