// Time as a dependency, so that every core with a deadline also runs under virtual time.
#ifndef ORRERY_BASE_CLOCK_H_
#define ORRERY_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace orrery {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

// The machine's clock.
class RealClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

// A clock that moves only when told to. Not thread-safe: virtual time has one owner.
class VirtualClock : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void AdvanceTo(absl::Time now) { now_ = now > now_ ? now : now_; }

 private:
  absl::Time now_ = absl::UnixEpoch();
};

}  // namespace orrery

#endif  // ORRERY_BASE_CLOCK_H_
