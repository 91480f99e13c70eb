// Times that a refusal tells, carried by the status itself. Header only.
//
//   return WithRetryAfter(absl::ResourceExhaustedError("..."), absl::Milliseconds(400));
//   if (const std::optional<absl::Duration> after = RetryAfterOf(status)) ...
//   return WithNeededTime(absl::ResourceExhaustedError("..."), absl::Seconds(9));
//   if (const std::optional<absl::Duration> needed = NeededTimeOf(status)) ...
//
// Whole milliseconds. Between processes they travel as trailers (rpc/status.h).
#ifndef ORRERY_BASE_REFUSAL_TIMES_H_
#define ORRERY_BASE_REFUSAL_TIMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace orrery {

// Of the payloads, and of the trailers.
inline constexpr char kRetryAfterName[] = "retry-after-ms";
inline constexpr char kNeededTimeName[] = "needed-time-ms";

inline absl::Status WithTime(absl::Status status, const char* name, absl::Duration time) {
  status.SetPayload(name, absl::Cord(absl::StrCat(absl::ToInt64Milliseconds(time))));
  return status;
}

inline std::optional<absl::Duration> TimeOf(const absl::Status& status, const char* name) {
  const absl::optional<absl::Cord> payload = status.GetPayload(name);
  int64_t ms = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &ms)) return std::nullopt;
  return absl::Milliseconds(ms);
}

// When it is worth the refused caller's while to try again. Rounded up, so that nobody comes too early.
inline absl::Status WithRetryAfter(absl::Status status, absl::Duration after) {
  return WithTime(std::move(status), kRetryAfterName, absl::Ceil(after, absl::Milliseconds(1)));
}
inline std::optional<absl::Duration> RetryAfterOf(const absl::Status& status) {
  return TimeOf(status, kRetryAfterName);
}

// How long the request would have taken, of one that was refused for want of time. Rounded down, so that nobody is
// refused who has so much.
inline absl::Status WithNeededTime(absl::Status status, absl::Duration needed) {
  return WithTime(std::move(status), kNeededTimeName, needed);
}
inline std::optional<absl::Duration> NeededTimeOf(const absl::Status& status) {
  return TimeOf(status, kNeededTimeName);
}

}  // namespace orrery

#endif  // ORRERY_BASE_REFUSAL_TIMES_H_
