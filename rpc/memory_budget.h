// What a member of the cluster may take of its host's memory, and what every member needs beside its own work.
//
//   const MemoryBudget budget = MemoryBudgetOf(cluster, *me);
//   MemoryNeed need;
//   need.Add(...);                                     // what the member works with
//   AddProcess(churning_bytes, need);                  // last
//   RETURN_IF_ERROR(TakeBudget(me->name(), need, budget));
//
// The budget is ClusterMember.memory_bytes; without it the limit of the process's control group; without one the
// machine's memory over the members of its host. It holds memory of the host only: a GPU's is another matter
// (services/attention/rank_memory.h).
//
// What counts is memory that the system cannot take back: no pages of files, which the kernel drops when it
// needs room.
//
// Threads: any.
#ifndef ORRERY_RPC_MEMORY_BUDGET_H_
#define ORRERY_RPC_MEMORY_BUDGET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/memory_need.h"
#include "base/status.h"
#include "rpc/cluster_file.h"

namespace orrery {

struct MemoryBudget {
  size_t bytes = 0;
  std::string source;  // "the limit of its control group"
};

// root: for tests, see base/memory_limit.h. At least 1 byte, whatever the system says.
MemoryBudget MemoryBudgetOf(const internal::ClusterFile& cluster, const ClusterMember& member,
                            const std::string& root = "");

// The process itself, and what its heap keeps of memory that is taken and given back all the time, of which
// there is churning_bytes at a time.
void AddProcess(size_t churning_bytes, MemoryNeed& need);

// What CUDA's driver and libraries take of the host's memory. Not measured yet, and meant to be too much.
inline constexpr size_t kCudaHostBytes = size_t{1} << 30;

// What JSON files take while they are parsed, and what is made of them, together; nothing for those that are not there.
size_t ParsedBytes(const std::vector<std::string>& paths);

// What is left for requests, of which each takes and gives back its own, in a process that needs all that stands
// in `fixed` and churns through churning_bytes beside them. 0 if nothing is.
size_t LeftForRequests(const MemoryBudget& budget, const MemoryNeed& fixed, size_t churning_bytes);

// Of a member that answers requests: how long one may be, and how many may be open.
struct RequestPlaces {
  int64_t longest_bytes = 0;
  int64_t num_places = 0;
};
// Adds what requests may hold and then the process, and says how much new requests may hold together; those that
// go on from elsewhere (replays, resumed ones) as much again. Half of what is left, for at least one of the
// longest, and never more than all places take.
int64_t AddRequestsAndProcess(const MemoryBudget& budget, const RequestPlaces& places,
                              size_t churning_bytes, MemoryNeed& need);

// OK, and a line in the log; or RESOURCE_EXHAUSTED as CheckFits.
absl::Status TakeBudget(const std::string& member, const MemoryNeed& need,
                        const MemoryBudget& budget);

}  // namespace orrery

#endif  // ORRERY_RPC_MEMORY_BUDGET_H_
