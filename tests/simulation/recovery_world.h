// One rank's layers, one after the other, over shards that crash, stand still, drain and come back, in
// virtual time: the real Recovery, ShardHealth and ExpertDirectory.
//
//   RecoveryWorld world(loop, {.num_layers = 9000});
//   world.Run();
//   EXPECT_THAT(world.violations(), IsEmpty());
//
// One shard at a time is disturbed, and the others have room for its experts, so that every layer must
// come to its end. The invariants:
//   * every layer is done within its deadline; with a second holder for every expert none stalls for longer
//     than a patience, else none for longer than it takes to miss a shard and to load
//   * an entry is answered by a shard that holds its expert
//   * a heir loads what it has room for, and no expert is loaded by two heirs
//   * while all is well no shard is asked twice, and nothing loaded
#ifndef ORRERY_TESTS_SIMULATION_RECOVERY_WORLD_H_
#define ORRERY_TESTS_SIMULATION_RECOVERY_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/attention/expert_directory.h"
#include "services/attention/recovery.h"
#include "services/attention/shard_health.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/promises.h"

namespace orrery {

struct RecoveryWorldSpec {
  int num_shards = 4;
  int num_experts = 32;  // of each of the MoE layers
  int num_moe_layers = 3;
  int topk = 4;
  int num_layers = 9000;                              // to run
  absl::Duration max_pause = absl::Milliseconds(20);  // between two of them
  bool is_doubled = false;                            // each expert has two holders
  double trouble = 0.05;                              // per layer, while nobody is in trouble
  HedgeOptions hedge = {};
};

class RecoveryWorld {
 public:
  RecoveryWorld(EventLoop& loop, const RecoveryWorldSpec& spec);

  void Run();

  const std::vector<std::string>& violations() const { return promises_.broken(); }
  absl::Duration longest_stall() const { return longest_stall_; }
  int num_troubles() const { return num_troubles_; }
  int num_loaded() const { return num_loaded_; }
  int64_t num_hedges() const;

 private:
  using Key = std::pair<int, int>;  // (layer, expert)
  struct Shard {
    std::vector<bool> own;  // [num_experts], of every layer
    std::set<Key> inherited, loading;
    bool is_up = true;
    bool is_stalled = false;
    bool is_draining = false;
    bool has_answered = false;
    int life = 0;                      // asks of an earlier life are lost
    std::vector<uint32_t> unanswered;  // that came while it stood still
  };
  struct Ask {
    int peer = 0;
    int life = 0;
    std::vector<DispatchEntry> entries;
  };

  static bool Holds(const Shard& shard, Key key);
  // Some shard serves it that was given it, as against one that has inherited it.
  bool IsOwned(int expert) const;
  void BeginLayer();
  void Pump();
  void OnArrival(uint32_t id);
  void Answer(uint32_t id);
  void Lose(uint32_t id);
  void Finish(uint32_t id, const CombineReport& report, bool is_answered);
  void EndLayer(absl::Duration stall);
  EntryState StateOf(Shard& shard, Key key);
  void Poll(int shard);
  void MakeTrouble();
  void Crash(int shard);
  void Return(int shard);
  int Room(const Shard& shard) const;
  void MakeRoom(Shard& shard);

  EventLoop& loop_;
  const RecoveryWorldSpec spec_;
  ExpertDirectory directory_;
  ShardHealth health_;
  ShardMemory memory_;
  Recovery recovery_;
  std::vector<Shard> shards_;
  std::vector<bool> connected_;
  std::map<uint32_t, Ask> asks_;
  std::set<uint32_t> of_layer_;  // asks that the layer at hand waits for
  std::vector<DispatchEntry> entries_;
  std::vector<bool> answered_;  // [entries_] by a shard that holds its expert
  uint32_t next_ask_ = 1;
  int layer_ = 0;  // counts those that ran
  absl::Time layer_begin_;
  int num_pumps_ = 0;
  bool is_in_trouble_ = false;
  absl::Duration longest_stall_;
  int num_troubles_ = 0;
  int num_loaded_ = 0;
  Promises promises_{[this] { return absl::StrCat(loop_.When(), " layer ", layer_); }};
};

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_RECOVERY_WORLD_H_
