// The metrics that follow from what a member says of itself to others: the one place that names them. README.md has
// the table; a test compares it with what processes answer.
//
//   MetricFamilies families;
//   AddMemberMetrics(member.Description(), {.model = "abacus", .kv_block_tokens = 64}, families);
//
// A pure function.
#ifndef ORRERY_RPC_MONITORING_MEMBER_METRICS_H_
#define ORRERY_RPC_MONITORING_MEMBER_METRICS_H_

#include <string>

#include "proto/member.pb.h"
#include "rpc/monitoring/metric_families.h"

namespace orrery {

// What a description does not hold and never changes.
struct MemberFacts {
  std::string model;        // its name in the cluster file
  int kv_block_tokens = 0;  // attention ranks
};

void AddMemberMetrics(const internal::MemberDescription& description, const MemberFacts& facts,
                      MetricFamilies& families);

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_MEMBER_METRICS_H_
