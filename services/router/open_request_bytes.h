// What an open request may hold of a router's memory until it ends, worked out when it comes. Upper bounds.
//
//   OpenRequestBytes(sequence, kUsualTokenBytes)
//   LongestOpenRequestBytes(max_context_tokens)      // with one choice, and nothing special
//
//   prompt, each token   as ids, and on the way to the rank
//   answer, each token   its id, in a vector that grows by doubling, and in the request of a replay
//   messages             those that wait for the client (GenerateCall::kMaxPending), and what the rank has sent and
//                        nobody has read: a window of gRPC at most
//
// Threads: any.
#ifndef ORRERY_SERVICES_ROUTER_OPEN_REQUEST_BYTES_H_
#define ORRERY_SERVICES_ROUTER_OPEN_REQUEST_BYTES_H_

#include <cstddef>
#include <cstdint>

#include "proto/attention.pb.h"

namespace orrery {

// A resume token of a model of 163 files (resume_token.h), for requests that have none yet.
inline constexpr size_t kUsualTokenBytes = 10 << 10;

int64_t OpenRequestBytes(const internal::SequenceRequest& sequence, size_t token_bytes);

int64_t LongestOpenRequestBytes(int max_context_tokens);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_OPEN_REQUEST_BYTES_H_
