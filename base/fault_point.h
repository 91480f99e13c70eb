// Named places in the code where a test may let the process die, as suddenly as kill -9 does it:
//
//   RETURN_IF_ERROR(ArmFaultPoint("after_dispatch:12"));   // main: dies at the twelfth passing
//   PassFaultPoint(FaultPoint::kAfterDispatch);            // the place
//
// A random kill meets most of these once in a thousand times; here it is certain. Unarmed, which is always
// but in such tests, a place costs one comparison.
//
// It is a global that changes, the only one: a place deep in a loop has nobody to be handed such a thing by.
//
// Threads: arm before others start; pass from anywhere.
#ifndef ORRERY_BASE_FAULT_POINT_H_
#define ORRERY_BASE_FAULT_POINT_H_

#include <atomic>
#include <string>
#include <vector>

#include "base/status.h"

namespace orrery {

enum class FaultPoint {
  kNone,
  // An attention rank.
  kAfterDispatch,   // rows are out
  kBeforeCombine,   // rows are back
  kBeforeCommit,    // a step is through, and no token of it is out
  kInReplay,        // the first step of a sequence that another rank began
  kInVerification,  // drafts are being compared
  // An expert shard.
  kAfterReceive,  // rows have come
  kBeforeReply,   // results are made
  kWhileLoading,  // a part of the weights is there
};

// "after_dispatch" and so on; all of them, in the order above.
std::string FaultPointName(FaultPoint point);
std::vector<std::string> FaultPointNames();

// "NAME:N", N at least 1; empty: none. INVALID_ARGUMENT names the known ones.
absl::Status ArmFaultPoint(const std::string& text);

namespace fault_internal {
inline FaultPoint armed = FaultPoint::kNone;
inline std::atomic<int> num_left = 0;
void Die();
}  // namespace fault_internal

inline void PassFaultPoint(FaultPoint point) {
  if (fault_internal::armed != point) return;
  if (--fault_internal::num_left == 0) fault_internal::Die();
}

}  // namespace orrery

#endif  // ORRERY_BASE_FAULT_POINT_H_
