// Messages out of gRPC's bytes and into them, for services that read requests themselves. Header
// only.
//
//   ASSIGN_OR_RETURN(const v1::GenerateRequest request, TakeMessage<v1::GenerateRequest>(raw));
//   grpc::ByteBuffer bytes = ToBytes(response);
//
// gRPC's generated code would answer a request that does not parse, such as one with a text that is
// not UTF-8, with a bare INTERNAL; TakeMessage makes an INVALID_ARGUMENT of it that says so.
#ifndef ORRERY_SERVICES_ROUTER_RAW_MESSAGE_H_
#define ORRERY_SERVICES_ROUTER_RAW_MESSAGE_H_

#include "base/check.h"
#include "base/status.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/support/byte_buffer.h"

namespace orrery {

// Empties `raw`. gRPC hands the request out as const, yet it is this call's alone and would stay
// until the call ends: a long prompt's bytes as long as the answer takes.
template <typename Message>
absl::StatusOr<Message> TakeMessage(const grpc::ByteBuffer* raw) {
  Message message;
  auto* const bytes = const_cast<grpc::ByteBuffer*>(raw);
  if (!grpc::SerializationTraits<Message>::Deserialize(bytes, &message).ok()) {
    return absl::InvalidArgumentError(
        "the request cannot be read: a text in it is not UTF-8, or it is not this message");
  }
  return message;
}

template <typename Message>
grpc::ByteBuffer ToBytes(const Message& message) {
  grpc::ByteBuffer bytes;
  bool owns_bytes = false;
  const grpc::Status status =
      grpc::SerializationTraits<Message>::Serialize(message, &bytes, &owns_bytes);
  ORRERY_CHECK(status.ok()) << message.GetTypeName() << ": " << status.error_message();
  return bytes;
}

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_RAW_MESSAGE_H_
