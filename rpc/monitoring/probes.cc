#include "rpc/monitoring/probes.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace orrery {
namespace {

constexpr int kOk = 200;
constexpr int kUnavailable = 503;

HttpAnswer Answer(int status, std::string text) {
  return {.status = status, .body = absl::StrCat(std::move(text), "\n")};
}

}  // namespace

HttpAnswer StartupAnswer(const internal::MemberDescription& description) {
  switch (description.state()) {
    case internal::MEMBER_STATE_UNSPECIFIED:
    case internal::MEMBER_STATE_LOADING:
      return Answer(kUnavailable, absl::StrCat("loading ", description.loaded_bytes() / 1000000,
                                               " of ", description.total_bytes() / 1000000, " MB"));
    default:
      return Answer(kOk, "started");
  }
}

HttpAnswer ReadyAnswer(const internal::MemberDescription& description) {
  if (description.state() == internal::MEMBER_STATE_READY) return Answer(kOk, "ready");
  const HttpAnswer startup = StartupAnswer(description);
  if (startup.status != kOk) return startup;
  // MEMBER_STATE_DRAINING is "draining", as in `orrery status`.
  std::string text = absl::AsciiStrToLower(
      absl::StripPrefix(internal::MemberState_Name(description.state()), "MEMBER_STATE_"));
  for (const std::string& problem : description.problems()) absl::StrAppend(&text, "\n", problem);
  return Answer(kUnavailable, std::move(text));
}

HttpAnswer LiveAnswer(absl::Duration heartbeat_age) {
  if (heartbeat_age < kLiveWithin) return Answer(kOk, "alive");
  return Answer(kUnavailable,
                absl::StrCat("the loop has not turned for ",
                             absl::FormatDuration(absl::Floor(heartbeat_age, absl::Seconds(1))),
                             ", at most ", absl::FormatDuration(kLiveWithin), " are allowed"));
}

}  // namespace orrery
