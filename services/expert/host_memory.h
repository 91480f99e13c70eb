// What the process of a shard needs of its host's memory at most, as a sum of parts.
//
//   const MemoryNeed need = ShardHostNeed({.counted = ..., .max_copies = 40, ...});
//   RETURN_IF_ERROR(TakeBudget(name, need, budget));
//
// Threads: any.
#ifndef ORRERY_SERVICES_EXPERT_HOST_MEMORY_H_
#define ORRERY_SERVICES_EXPERT_HOST_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "base/memory_need.h"
#include "exchange/exchange.h"
#include "services/expert/shard.h"

namespace orrery {

// What gRPC's server may hold: frames that arrive from many ranks, far from where its windows get small.
inline constexpr size_t kServerBufferBytes = size_t{64} << 20;

struct ShardHostParts {
  Shard::Memory counted;
  bool is_on_gpu = false;  // weights and scratch are in the GPU's memory
  int max_copies = 0;      // experts of others
  int num_ranks = 0;
  ExchangeOptions exchange;
  size_t parsed_bytes = 0;  // for the index
};

MemoryNeed ShardHostNeed(const ShardHostParts& parts);

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_HOST_MEMORY_H_
