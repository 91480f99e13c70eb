// What a request may hold of a rank's memory until it ends, worked out when it comes. Upper bounds.
//
//   RequestBytes(asked)
//   LongestRequestBytes(max_context_tokens)     // of a request with one choice, and nothing special
//
//   prompt, each token      as it came over the network and as ids; ids again in each choice's sequence
//   answer, each token      ids of sequence and sampler, each in a vector that grows by doubling (so three times what
//                           is in it while it does); its event, if nobody reads; what penalties count
//
// Threads: any.
#ifndef ORRERY_SERVICES_ATTENTION_REQUEST_BYTES_H_
#define ORRERY_SERVICES_ATTENTION_REQUEST_BYTES_H_

#include <cstdint>

#include "services/attention/sequence.h"

namespace orrery {

int64_t RequestBytes(const GenerationRequest& asked);

int64_t LongestRequestBytes(int max_context_tokens);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_REQUEST_BYTES_H_
