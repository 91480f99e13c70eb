// When a shard that was asked to stop may go: no rank is connected any more, or all have heard of it and
// none has asked for anything for a while. Header only; no I/O, the time is passed in.
//
//   Drain drain(now);
//   while (drain.IsNeeded({.num_connections = 4, .num_frames = 812}, now)) ...
#ifndef ORRERY_SERVICES_EXPERT_DRAIN_H_
#define ORRERY_SERVICES_EXPERT_DRAIN_H_

#include <cstdint>

#include "absl/time/time.h"

namespace orrery {

class Drain {
 public:
  // A rank asks a ready shard who it is every 2.4 seconds at least (rpc/member_watch.h).
  static constexpr absl::Duration kHearTime = absl::Seconds(3);
  // Ranks that use it have an answer outstanding, or ask within one step.
  static constexpr absl::Duration kQuietTime = absl::Seconds(1);

  struct Use {
    int num_connections = 0;
    uint64_t num_frames = 0;  // answered since the start
  };

  explicit Drain(absl::Time now) : begin_(now), quiet_since_(now) {}

  bool IsNeeded(const Use& use, absl::Time now) {
    if (use.num_frames != num_frames_) {
      num_frames_ = use.num_frames;
      quiet_since_ = now;
    }
    if (use.num_connections == 0) return false;
    return now - begin_ < kHearTime || now - quiet_since_ < kQuietTime;
  }

 private:
  const absl::Time begin_;
  absl::Time quiet_since_;
  uint64_t num_frames_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_DRAIN_H_
