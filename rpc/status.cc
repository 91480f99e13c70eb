#include "rpc/status.h"

#include <string>

#include "absl/strings/cord.h"
#include "base/refusal_times.h"

namespace orrery {
namespace {

// That are trailers on the way.
constexpr const char* kPayloads[] = {kRetryAfterName, kNeededTimeName};

}  // namespace

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
  for (const char* name : kPayloads) {
    const absl::optional<absl::Cord> payload = status.GetPayload(name);
    if (payload.has_value()) context.AddTrailingMetadata(name, std::string(*payload));
  }
}

absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  absl::Status full = FromGrpcStatus(status);
  if (full.ok()) return full;
  const auto& trailers = context.GetServerTrailingMetadata();
  for (const char* name : kPayloads) {
    const auto found = trailers.find(name);
    if (found == trailers.end()) continue;
    full.SetPayload(name,
                    absl::Cord(absl::string_view(found->second.data(), found->second.size())));
  }
  return full;
}

}  // namespace orrery
