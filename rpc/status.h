// absl::Status and grpc::Status into each other. The only place that makes gRPC codes.
//
//   return ToGrpcStatus(absl::InvalidArgumentError("prompt of 5000 tokens, the limit is 4096"));
//   RETURN_IF_ERROR(FromGrpcStatus(stub->Describe(&context, request, &response)));
//   AddTrailers(status, context);                          // a server's, before it finishes
//   return FromGrpcStatus(reader->Finish(), context);      // with what these said
//
// Codes correspond one to one by number (both follow google.rpc.Code); messages pass unchanged, cut
// to kMaxStatusBytes because they travel in a header. A number that is no code becomes UNKNOWN.
#ifndef ORRERY_RPC_STATUS_H_
#define ORRERY_RPC_STATUS_H_

#include "base/status.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace orrery {

// Headers of a response are limited to 8 KiB in all, and each byte of a message may become three
// ("%0a").
inline constexpr size_t kMaxStatusBytes = 2048;

grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

// When to try again and how long it would have taken (base/refusal_times.h), as trailing metadata.
void AddTrailers(const absl::Status& status, grpc::ServerContextBase& context);
// Of a call that has ended.
absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace orrery

#endif  // ORRERY_RPC_STATUS_H_
