// The floor under an exchange over gRPC: bytes there and back on one open stream, through sockets of
// this machine, with nothing behind it. The server answers in its callback.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<StreamEcho> echo, StreamEcho::Start());
//   absl::Duration time = echo->RoundTrip({.bytes_out = 400, .bytes_back = 1600});
//
// For measurements only. Threads: one owner.
#ifndef ORRERY_TOOLS_BENCH_STEP_STREAM_ECHO_H_
#define ORRERY_TOOLS_BENCH_STEP_STREAM_ECHO_H_

#include <cstddef>
#include <memory>

#include "absl/time/time.h"
#include "base/status.h"

namespace orrery {

class StreamEcho {
 public:
  struct Sizes {
    size_t bytes_out = 0;
    size_t bytes_back = 0;
  };
  static absl::StatusOr<std::unique_ptr<StreamEcho>> Start();
  virtual ~StreamEcho() = default;
  // UNAVAILABLE if the stream broke.
  virtual absl::StatusOr<absl::Duration> RoundTrip(const Sizes& sizes) = 0;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_STEP_STREAM_ECHO_H_
