// The floor under an exchange over gRPC: byte buffers there and back on one open stream, with
// nothing behind it. The server, in this process or another, answers in its callback.
//
//   ASSIGN_OR_RETURN(auto bare, BareStream::Open("127.0.0.1:7421", /*local_socket=*/true));
//   ASSIGN_OR_RETURN(absl::Duration time, bare->RoundTrip({.bytes_out = 4200, .bytes_back = 25000}));
//
// Bytes are not copied by us on either side. For measurements only. Threads: one owner.
#ifndef ORRERY_TOOLS_BENCH_BARE_STREAM_BARE_STREAM_H_
#define ORRERY_TOOLS_BENCH_BARE_STREAM_BARE_STREAM_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "proto/expert.grpc.pb.h"

namespace orrery {

// Answers each message with as many bytes as its first eight say.
class BareEchoService
    : public internal::Expert::WithRawCallbackMethod_Exchange<internal::Expert::Service> {
 public:
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Exchange(
      grpc::CallbackServerContext* context) override;
};

class BareStream {
 public:
  struct Sizes {
    size_t bytes_out = 0;   // at least 8
    size_t bytes_back = 0;  // both at most kMaxFrameBytes
  };
  // UNAVAILABLE if nobody answers.
  static absl::StatusOr<std::unique_ptr<BareStream>> Open(const std::string& address,
                                                          bool local_socket);
  virtual ~BareStream() = default;
  virtual absl::StatusOr<absl::Duration> RoundTrip(const Sizes& sizes) = 0;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_BARE_STREAM_BARE_STREAM_H_
