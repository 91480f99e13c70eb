// The answer of ClusterStatus: what the router knows, in the words of the client contract.
#ifndef ORRERY_SERVICES_ROUTER_CLUSTER_STATUS_H_
#define ORRERY_SERVICES_ROUTER_CLUSTER_STATUS_H_

#include "proto/orrery.pb.h"
#include "services/router/router_core.h"

namespace orrery {

// `self` is the router's own description, which stands first.
v1::ClusterStatusResponse MakeClusterStatus(const RouterCore& core, const MemberInfo& self_info,
                                            const internal::MemberDescription& self);

// What the router says of itself.
internal::MemberDescription DescribeRouter(const RouterCore& core, const MemberInfo& self_info,
                                           const Fingerprint& fingerprint);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_CLUSTER_STATUS_H_
