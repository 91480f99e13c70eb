// How long a request that was refused for want of time would have taken, carried by the status itself. Header only.
//
//   return WithNeededTime(absl::ResourceExhaustedError("..."), absl::Seconds(9));
//   if (const std::optional<absl::Duration> needed = NeededTimeOf(status)) ...
//
// Whole milliseconds. Between processes it travels as a trailer (rpc/status.h).
#ifndef ORRERY_BASE_NEEDED_TIME_H_
#define ORRERY_BASE_NEEDED_TIME_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace orrery {

// Of the payload, and of the trailer.
inline constexpr char kNeededTimeName[] = "needed-time-ms";

// Rounded down, so that nobody is refused who has so much.
inline absl::Status WithNeededTime(absl::Status status, absl::Duration needed) {
  status.SetPayload(kNeededTimeName, absl::Cord(absl::StrCat(absl::ToInt64Milliseconds(needed))));
  return status;
}

inline std::optional<absl::Duration> NeededTimeOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kNeededTimeName);
  int64_t ms = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &ms)) return std::nullopt;
  return absl::Milliseconds(ms);
}

}  // namespace orrery

#endif  // ORRERY_BASE_NEEDED_TIME_H_
