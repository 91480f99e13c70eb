// Warnings about what strangers do, as often as they like: each text is logged at most once in ten seconds, and at
// most so many different ones.
//
//   RareWarnings warnings;
//   warnings.Warn("refused spiffe://...");
//
// Threads: any.
#ifndef ORRERY_RPC_RARE_WARNINGS_H_
#define ORRERY_RPC_RARE_WARNINGS_H_

#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log.h"

namespace orrery {

class RareWarnings {
 public:
  static constexpr absl::Duration kPeriod = absl::Seconds(10);
  static constexpr size_t kMaxTexts = 16;  // in a period

  void Warn(const std::string& text) {
    if (IsNew(text)) LogWarning(text);
  }

 private:
  bool IsNew(const std::string& text) {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = absl::Now();
    if (now >= period_end_) {
      said_.clear();
      period_end_ = now + kPeriod;
    }
    return said_.size() < kMaxTexts && said_.insert(text).second;
  }

  absl::Mutex mutex_;
  absl::Time period_end_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::set<std::string> said_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orrery

#endif  // ORRERY_RPC_RARE_WARNINGS_H_
