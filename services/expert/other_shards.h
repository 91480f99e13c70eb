// What the other shards hold, as far as a shard that loads experts of theirs must know: a table without I/O; the time is
// passed in.
//
//   OtherShards others(names, homes, /*self=*/2);
//   others.OnDescription(0, {.is_serving = true, .incarnation = 77, .held = held});    // or {}, if it does not answer
//   others.OnConvicted({77}, now);                       // by an attention rank: it gives wrong answers
//   others.ServesItsOwn({.layer = 3, .expert = 9}, now)  // false, until another process is there
//
// Who is convicted holds nothing. Ranks say so again and again, so what none of them has repeated for kConvictionTime
// is forgotten: it may have been the rank that was broken.
//
// Threads: none of its own; its owner has a lock.
#ifndef ORRERY_SERVICES_EXPERT_OTHER_SHARDS_H_
#define ORRERY_SERVICES_EXPERT_OTHER_SHARDS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "placement/placement.h"

namespace orrery {

class OtherShards {
 public:
  static constexpr absl::Duration kConvictionTime = absl::Seconds(30);

  // What one says of itself.
  struct Description {
    bool is_serving = false;  // ready, with our numbers
    uint64_t incarnation = 0;
    std::set<std::pair<int, int>> held;  // (layer, expert)
  };

  // [num_shards]: their stable names, and their homes.
  OtherShards(std::vector<std::string> names, std::vector<ExpertRange> homes, int self);

  void OnDescription(int shard, Description description);
  void OnConvicted(absl::Span<const uint64_t> incarnations, absl::Time now);

  // Whether the shard whose home the expert has serves it.
  bool ServesItsOwn(ExpertKey key, absl::Time now) const;
  // Whether one that stands before this one among the expert's heirs (placement/heirs.h) holds it.
  bool IsHeldBefore(ExpertKey key, absl::Time now) const;

 private:
  bool Holds(int shard, ExpertKey key, absl::Time now) const;

  const std::vector<std::string> names_;
  const std::vector<ExpertRange> homes_;
  const int self_;
  std::vector<Description> descriptions_;        // [num_shards]
  std::map<uint64_t, absl::Time> convicted_at_;  // by incarnation: when it was last said
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_OTHER_SHARDS_H_
