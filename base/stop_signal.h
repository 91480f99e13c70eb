// SIGTERM and SIGINT as an orderly request to stop.
//
//   int main() {
//     StopSignal stop;            // before any thread starts: threads inherit the blocked signals
//     ... start ...
//     stop.Wait();
//     ... stop in reverse order ...
//   }
#ifndef ORRERY_BASE_STOP_SIGNAL_H_
#define ORRERY_BASE_STOP_SIGNAL_H_

#include <csignal>

#include "absl/time/time.h"

namespace orrery {

class StopSignal {
 public:
  StopSignal() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  // Blocks until one of them arrives, and returns which.
  int Wait() {
    int signal = 0;
    sigwait(&signals_, &signal);
    return signal;
  }
  // Whether one arrived within the timeout.
  bool WaitFor(absl::Duration timeout) {
    const timespec limit = absl::ToTimespec(timeout);
    return sigtimedwait(&signals_, nullptr, &limit) > 0;
  }

 private:
  sigset_t signals_;
};

}  // namespace orrery

#endif  // ORRERY_BASE_STOP_SIGNAL_H_
