// When it is worth a refused caller's while to try again, carried by the status itself. Header only.
//
//   return WithRetryAfter(absl::ResourceExhaustedError("..."), absl::Milliseconds(400));
//   if (const std::optional<absl::Duration> after = RetryAfterOf(status)) ...
//
// Whole milliseconds. Between processes it travels as a trailer (rpc/status.h).
#ifndef ORRERY_BASE_RETRY_AFTER_H_
#define ORRERY_BASE_RETRY_AFTER_H_

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
inline constexpr char kRetryAfterName[] = "retry-after-ms";

inline absl::Status WithRetryAfter(absl::Status status, absl::Duration after) {
  const int64_t ms = absl::ToInt64Milliseconds(absl::Ceil(after, absl::Milliseconds(1)));
  status.SetPayload(kRetryAfterName, absl::Cord(absl::StrCat(ms)));
  return status;
}

inline std::optional<absl::Duration> RetryAfterOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryAfterName);
  int64_t ms = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &ms)) return std::nullopt;
  return absl::Milliseconds(ms);
}

}  // namespace orrery

#endif  // ORRERY_BASE_RETRY_AFTER_H_
