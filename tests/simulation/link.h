// One direction of a bad network: delays, drops, repeats and reorders messages, as the loop's
// chance has it.
//
//   Link link(loop, {.drop = 0.02, .duplicate = 0.05});
//   link.Send(bytes, [&](const std::string& bytes) { shard.OnFrame(bytes); });
//   link.Cut();          // what is under way is lost
//
// It is worse than any transport of exchange/channel.h, which keeps order and drops only what it
// reports.
#ifndef ORRERY_TESTS_SIMULATION_LINK_H_
#define ORRERY_TESTS_SIMULATION_LINK_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "tests/simulation/event_loop.h"

namespace orrery {

struct LinkFaults {
  double drop = 0.0;
  double duplicate = 0.0;
  absl::Duration min_delay = absl::Microseconds(20);
  absl::Duration max_delay = absl::Milliseconds(5);  // messages overtake each other within this
};

class Link {
 public:
  using Deliver = std::function<void(const std::string&)>;

  Link(EventLoop& loop, const LinkFaults& faults) : loop_(loop), faults_(faults) {}

  void Send(const std::string& message, const Deliver& deliver) {
    if (loop_.Happens(faults_.drop)) return;
    const int num_copies = loop_.Happens(faults_.duplicate) ? 2 : 1;
    for (int i = 0; i < num_copies; ++i) {
      loop_.After(loop_.Between(faults_.min_delay, faults_.max_delay),
                  [message, deliver, sent_on = connection_, now_on = current_] {
                    if (sent_on == *now_on) deliver(message);
                  });
    }
  }
  void Cut() { *current_ = ++connection_; }

 private:
  EventLoop& loop_;
  const LinkFaults faults_;
  int connection_ = 0;
  const std::shared_ptr<int> current_ = std::make_shared<int>(0);
};

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_LINK_H_
