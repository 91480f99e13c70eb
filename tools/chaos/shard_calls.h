// What a chaos run says to expert shards and asks them, by the calls of the balancer (proto/placement.proto).
//
//   ASSIGN_OR_RETURN(const internal::RowCounts counts, CountRows(shard.address()));
//   RETURN_IF_ERROR(HoldCopies(shard.address(), {{.layer = 3, .expert = 9}}));
//
// Errors: those of the calls, UNAVAILABLE and DEADLINE_EXCEEDED among them. Each waits for its connection, and
// ends within half a minute.
#ifndef ORRERY_TOOLS_CHAOS_SHARD_CALLS_H_
#define ORRERY_TOOLS_CHAOS_SHARD_CALLS_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "placement/placement.h"
#include "proto/member.pb.h"
#include "proto/placement.pb.h"

namespace orrery {

absl::StatusOr<internal::MemberDescription> DescribeShard(const std::string& address);
absl::StatusOr<internal::RowCounts> CountRows(const std::string& address);
absl::Status HoldCopies(const std::string& address, absl::Span<const ExpertKey> copies);

// placement/balancer.h's, of the rows that shards counted between two moments; [num_shards] both.
double ImbalanceBetween(absl::Span<const internal::RowCounts> before,
                        absl::Span<const internal::RowCounts> after);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_SHARD_CALLS_H_
