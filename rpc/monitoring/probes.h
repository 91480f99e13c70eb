// What a member answers to Kubernetes' three questions, from what it says of itself: pure functions.
//
//   HttpAnswer answer = ReadyAnswer(member.Description());    // 503 "attention-0 is waiting\nexperts 4-7 ..."
//
// Started: the weights are loaded. Ready: work may be sent. Live: the loop turns; it knows nothing of the others,
// so a member that waits for its cluster is alive.
#ifndef ORRERY_RPC_MONITORING_PROBES_H_
#define ORRERY_RPC_MONITORING_PROBES_H_

#include "absl/time/time.h"
#include "proto/member.pb.h"
#include "rpc/monitoring/http_server.h"

namespace orrery {

// Loops beat every few seconds at the slowest, whatever they do (base/heartbeat.h); what they wait for has deadlines
// of its own, below which nobody should be restarted.
inline constexpr absl::Duration kLiveWithin = absl::Seconds(30);

HttpAnswer StartupAnswer(const internal::MemberDescription& description);
HttpAnswer ReadyAnswer(const internal::MemberDescription& description);
HttpAnswer LiveAnswer(absl::Duration heartbeat_age);

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_PROBES_H_
