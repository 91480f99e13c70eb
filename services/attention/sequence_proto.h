// proto/attention.proto into the engine's words, and back. No checks: they are the engine's.
#ifndef ORRERY_SERVICES_ATTENTION_SEQUENCE_PROTO_H_
#define ORRERY_SERVICES_ATTENTION_SEQUENCE_PROTO_H_

#include "proto/attention.pb.h"
#include "services/attention/outbox.h"
#include "services/attention/sequence.h"

namespace orrery {

// Without a deadline, which stands elsewhere.
GenerationRequest FromProto(const internal::SequenceRequest& proto);
// Into a message that may have been used before.
void ToProto(const OutputEvent& event, int prompt_tokens, internal::SequenceEvent& proto);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_SEQUENCE_PROTO_H_
