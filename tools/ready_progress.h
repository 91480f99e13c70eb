// Shows how a cluster comes up: a bar with bytes, rate and time left on a terminal, and a line per
// member that got ready.
//
//   ReadyProgress progress(&out);
//   launcher->WaitUntilReady(timeout, [&](const auto& status) { progress.Update(status); });
#ifndef ORRERY_TOOLS_READY_PROGRESS_H_
#define ORRERY_TOOLS_READY_PROGRESS_H_

#include <set>
#include <string>

#include "absl/time/clock.h"
#include "proto/orrery.pb.h"
#include "tools/terminal.h"

namespace orrery {

class ReadyProgress {
 public:
  // `out` must outlive it.
  explicit ReadyProgress(Terminal* out) : out_(out), begin_(absl::Now()) {}

  void Update(const v1::ClusterStatusResponse& status);

 private:
  Terminal* const out_;
  const absl::Time begin_;
  std::set<std::string> ready_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_READY_PROGRESS_H_
