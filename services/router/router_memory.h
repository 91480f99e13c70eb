// What the process of a router needs of memory at most, as a sum of parts, and the bounds that it rests on.
//
//   const RouterMemory memory = PlanRouterMemory({.max_context_tokens = 4096, ...}, budget);
//   RETURN_IF_ERROR(TakeBudget(name, memory.need, budget));
//
// Open requests get what the budget leaves, and never more than all places take that the router has; so that it
// depends on the budget whether one is refused for its size, and not whether the budget is kept.
//
// Threads: any.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_MEMORY_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "base/memory_need.h"
#include "rpc/memory_budget.h"

namespace orrery {

struct RouterMemoryParts {
  int max_context_tokens = 0;
  int max_open_requests = 0;  // as RouterCore's
  int num_members = 0;
  int num_workers = 0;
  size_t parsed_bytes = 0;  // for the tokenizer
};

struct RouterMemory {
  MemoryNeed need;
  int64_t max_request_bytes = 0;  // of open requests; resumed ones have as many again
  int max_message_bytes = 0;      // of a request
  size_t max_waiting_bytes = 0;   // of requests that wait to be tokenized
  size_t max_buffer_bytes = 0;    // of gRPC's server: these, and those that arrive
  size_t max_reply_bytes = 0;     // of what Tokenize and Detokenize say and nobody has read yet
};

RouterMemory PlanRouterMemory(const RouterMemoryParts& parts, const MemoryBudget& budget);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_MEMORY_H_
