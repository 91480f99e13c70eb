// Virtual time: a seeded loop that runs events in order of their time, as fast as it can.
//
//   EventLoop loop(seed);
//   loop.After(absl::Milliseconds(3), [&] { core.OnTimeout(loop.Now()); });
//   loop.RunUntil(loop.Now() + absl::Hours(1));
//
// The same seed gives the same run: time, order and chance come from here alone, and events of one
// moment run in the order in which they were added. So a failing seed is a complete bug report.
//
// How a core joins: cores are state machines (events in, actions out, the time passed in). A
// wrapper feeds the core its events and turns each action into loop.After(...) or Link::Send(...);
// the core itself is the one that ships. A core that wants a Clock gets loop.clock(). TicketWorld
// is the example.
//
// Threads: one.
#ifndef ORRERY_TESTS_SIMULATION_EVENT_LOOP_H_
#define ORRERY_TESTS_SIMULATION_EVENT_LOOP_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"

namespace orrery {

class EventLoop {
 public:
  using Event = std::function<void()>;

  explicit EventLoop(uint64_t seed) : rng_(seed) {}

  const Clock& clock() const { return clock_; }
  absl::Time Now() const { return clock_.Now(); }
  // Since the loop began, in words: "1.25s".
  std::string When() const { return absl::FormatDuration(Now() - absl::UnixEpoch()); }

  // Times in the past mean now.
  void At(absl::Time when, Event event) {
    events_.push_back({std::max(when, Now()), num_added_++, std::move(event)});
    std::push_heap(events_.begin(), events_.end(), IsLater);
  }
  void After(absl::Duration delay, Event event) { At(Now() + delay, std::move(event)); }

  // False if nothing is left to do.
  bool RunOne() {
    if (events_.empty()) return false;
    std::pop_heap(events_.begin(), events_.end(), IsLater);
    const Timed first = std::move(events_.back());
    events_.pop_back();
    clock_.AdvanceTo(first.when);
    ++num_events_;
    first.event();
    return true;
  }
  void RunUntil(absl::Time end) {
    while (!events_.empty() && events_.front().when <= end) RunOne();
    clock_.AdvanceTo(end);
  }
  int64_t num_events() const { return num_events_; }

  // Chance. Not the distributions of the standard library, which differ between implementations.
  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(rng_() % static_cast<uint64_t>(limit));
  }
  bool Happens(double probability) {
    return static_cast<double>(rng_() >> 11) * 0x1p-53 < probability;
  }
  absl::Duration Between(absl::Duration low, absl::Duration high) {
    return low + absl::Nanoseconds(Below(absl::ToInt64Nanoseconds(high - low) + 1));
  }

 private:
  struct Timed {
    absl::Time when;
    int64_t number = 0;  // of those that were added: equal times keep their order
    Event event;
  };
  static bool IsLater(const Timed& a, const Timed& b) {
    return a.when != b.when ? a.when > b.when : a.number > b.number;
  }

  VirtualClock clock_;
  std::vector<Timed> events_;  // a heap: the next one at its front
  int64_t num_added_ = 0;
  std::mt19937_64 rng_;
  int64_t num_events_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_EVENT_LOOP_H_
