#include "rpc/status.h"

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/retry_after.h"

namespace orrery {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message(status.message());
  if (message.size() > kMaxStatusBytes) {
    size_t end = kMaxStatusBytes;
    // Not in the middle of a UTF-8 character: back to its first byte.
    while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;
    message.resize(end);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()), message);
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = static_cast<int>(status.error_code());
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      status.error_message());
}

void AddTrailers(const absl::Status& status, grpc::ServerContextBase& context) {
  const std::optional<absl::Duration> after = RetryAfterOf(status);
  if (!after.has_value()) return;
  context.AddTrailingMetadata(kRetryAfterName, absl::StrCat(absl::ToInt64Milliseconds(*after)));
}

absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  const absl::Status plain = FromGrpcStatus(status);
  if (plain.ok()) return plain;
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(kRetryAfterName);
  int64_t ms = 0;
  if (found == trailers.end() ||
      !absl::SimpleAtoi(absl::string_view(found->second.data(), found->second.size()), &ms)) {
    return plain;
  }
  return WithRetryAfter(plain, absl::Milliseconds(ms));
}

}  // namespace orrery
