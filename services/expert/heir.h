// Loads what the shard is asked for and does not hold: experts of shards that are gone.
//
//   Heir heir(parts, {.max_experts = 40}, hand_over, drop);
//   shard->SetHeir([&](ExpertKey key, int num_rows) { return heir.Ask(key, num_rows); });
//   heir.Start(prepare);
//
//             Ask                       loaded                    room is needed, and its owner is back
//   unknown -------> waiting, loading ----------> handed over --------------------------------> unknown
//       `-- Ask, no room, or it cannot be loaded: kNotHeld, the rank asks the next in order
//
// Ranks agree on whom to ask (placement/heirs.h); here it is only loaded once, those first for which most
// rows have asked, and within max_experts, those that wait included. An expert that was handed over makes
// room when others are wanted and is_owned says that the shard which it belongs to serves it again. That
// one never drops its own, so the last live copy is never dropped, whatever others do at the same time.
//
// Threads: one of its own loads; Ask and the rest may be called from any. hand_over, drop and prepare are
// called from the loading thread, is_owned from any.
#ifndef ORRERY_SERVICES_EXPERT_HEIR_H_
#define ORRERY_SERVICES_EXPERT_HEIR_H_

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

#include "absl/time/time.h"
#include "base/status.h"
#include "services/expert/shard.h"

namespace orrery {

struct HeirOptions {
  int max_experts = 0;
  // Whether the shard that the expert belongs to serves it now.
  std::function<bool(ExpertKey)> is_owned = [](ExpertKey) { return false; };
  std::function<void(ExpertKey, FeedForwardWeights)> hand_over;
  std::function<void(ExpertKey)> drop;
};

class Heir {
 public:
  // parts: kernels and stream of its own, as the shard's are busy; files, which must stay. All outlive it.
  Heir(const ShardParts& parts, HeirOptions options, std::atomic<int64_t>* loaded_bytes);
  ~Heir();

  // `prepare` is run first, and with an error nothing is ever loaded. Once.
  void Start(std::function<absl::Status()> prepare);
  // Ends with what is being loaded. Idempotent.
  void Stop();

  MissingAnswer Ask(ExpertKey key, int num_rows);
  // How many more it would load, those included that it could drop; nullopt until it is prepared.
  std::optional<int> room() const;
  int num_inherited() const;

 private:
  using Key = std::pair<int, int>;  // (layer, expert)

  void Run(const std::function<absl::Status()>& prepare);
  void Load(Key key);
  absl::StatusOr<FeedForwardWeights> Read(Key key);
  // The one for which most rows have asked; the lock is held, as for the next three.
  Key Hottest() const;
  int NumKept() const;
  std::optional<Key> TakeDroppable();
  uint32_t EtaMs(int num_rows) const;

  const ShardParts parts_;
  const HeirOptions options_;
  std::atomic<int64_t>* const loaded_bytes_;
  std::set<int> moe_layers_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  bool is_prepared_ = false;
  bool stopping_ = false;
  bool told_no_room_ = false;
  std::map<Key, int> waiting_;  // rows that asked; the one being loaded included
  std::set<Key> inherited_;
  std::set<Key> failed_;
  absl::Duration load_time_ = absl::Milliseconds(100);  // of one expert, lately
  std::thread thread_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_HEIR_H_
