#include "tools/ready_progress.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace orrery {
namespace {

constexpr int kBarWidth = 30;

}  // namespace

void ReadyProgress::Update(const v1::ClusterStatusResponse& status) {
  const absl::Duration elapsed = absl::Now() - begin_;
  Progress progress{.label = "loading", .done = 0, .total = 0, .elapsed = elapsed, .unit = "bytes"};
  int num_absent = 0;
  for (const v1::MemberStatus& member : status.member()) {
    num_absent += member.state() == "absent";
    // Estimates of the total may be a little off.
    progress.done += std::min(member.loaded_bytes(), member.total_bytes());
    progress.total += member.total_bytes();
    if (member.state() != "ready" || !ready_.insert(member.name()).second) continue;
    out_->Print(absl::StrFormat("  %-14s ready after %.1f s\n", member.name(),
                                absl::ToDoubleSeconds(elapsed)));
  }
  const int num_expected = status.member_size() - num_absent;
  if (static_cast<int>(ready_.size()) >= num_expected) {
    out_->ClearProgress();
  } else {
    out_->ShowProgress(absl::StrCat(ProgressLine(progress, kBarWidth), "  ", ready_.size(), "/",
                                    num_expected, " members ready"));
  }
}

}  // namespace orrery
