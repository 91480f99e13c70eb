// What the process of a rank needs of its host's memory at most, as a sum of parts, and how much of it requests
// may hold.
//
//   const HostMemory memory = PlanHostMemory(counted, parts, budget);
//   RETURN_IF_ERROR(TakeBudget(name, memory.need, budget));
//   engine_options.max_request_bytes = memory.max_request_bytes;
//
// Requests get what the budget leaves, and never more than all places take that the engine has; so that it
// depends on the budget whether one is refused for its size, and not whether the budget is kept.
//
// Threads: any.
#ifndef ORRERY_SERVICES_ATTENTION_HOST_MEMORY_H_
#define ORRERY_SERVICES_ATTENTION_HOST_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "base/memory_need.h"
#include "rpc/memory_budget.h"
#include "services/attention/engine.h"
#include "services/attention/rank_memory.h"

namespace orrery {

// Beside what its model takes.
struct HostMemoryParts {
  bool is_on_gpu = false;  // the model is in the GPU's memory
  int vocab_size = 0;
  EngineOptions engine;
  size_t exchange_bytes = 0;
  size_t connection_bytes = 0;  // what gRPC's server may hold
  size_t parsed_bytes = 0;      // for tokenizer and index
};

struct HostMemory {
  MemoryNeed need;
  int64_t max_request_bytes = 0;
};

HostMemory PlanHostMemory(const RankMemory& counted, const HostMemoryParts& parts,
                          const MemoryBudget& budget);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_HOST_MEMORY_H_
