#include "base/fault_point.h"

#include <csignal>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace orrery {
namespace {

constexpr std::pair<const char*, FaultPoint> kPoints[] = {
    {"after_dispatch", FaultPoint::kAfterDispatch},
    {"before_combine", FaultPoint::kBeforeCombine},
    {"before_commit", FaultPoint::kBeforeCommit},
    {"in_replay", FaultPoint::kInReplay},
    {"in_verification", FaultPoint::kInVerification},
    {"after_receive", FaultPoint::kAfterReceive},
    {"before_reply", FaultPoint::kBeforeReply},
    {"while_loading", FaultPoint::kWhileLoading},
};

}  // namespace

std::vector<std::string> FaultPointNames() {
  std::vector<std::string> names;
  for (const auto& [name, point] : kPoints) names.push_back(name);
  return names;
}

std::string FaultPointName(FaultPoint point) {
  for (const auto& [name, its_point] : kPoints) {
    if (its_point == point) return name;
  }
  return "none";
}

absl::Status ArmFaultPoint(const std::string& text) {
  if (text.empty()) return absl::OkStatus();
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  int count = 0;
  for (const auto& [name, point] : kPoints) {
    if (parts.first != name || !absl::SimpleAtoi(parts.second, &count) || count < 1) continue;
    fault_internal::num_left = count;
    fault_internal::armed = point;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is no fault point: it must be NAME:N with N at least 1 and NAME one of ",
      absl::StrJoin(FaultPointNames(), ", ")));
}

void fault_internal::Die() { std::raise(SIGKILL); }

}  // namespace orrery
