#include "services/attention/host_memory.h"

#include "services/attention/request_bytes.h"

namespace orrery {
namespace {

// What the pool knows of a block: its ids, its hash, its place in two lists.
constexpr size_t kBlockRecordBytes = 640;
// Scores of the sampler, in f64 and as integers.
constexpr size_t kScoreBytes = 32;

}  // namespace

HostMemory PlanHostMemory(const RankMemory& counted, const HostMemoryParts& parts,
                          const MemoryBudget& budget) {
  const EngineOptions& engine = parts.engine;
  HostMemory memory;
  if (!parts.is_on_gpu) memory.need = DeviceNeed(counted);
  memory.need.Add({.name = "tables of the step",
                   .bytes = counted.pinned + engine.num_kv_blocks * kBlockRecordBytes +
                            parts.vocab_size * kScoreBytes});
  memory.need.Add({.name = "loading", .bytes = counted.loading + parts.parsed_bytes});
  if (parts.is_on_gpu) memory.need.Add({.name = "CUDA", .bytes = kCudaHostBytes});
  memory.need.Add(
      {.name = "exchange", .bytes = parts.exchange_bytes, .smaller_by = "limits.max_step_rows"});
  memory.need.Add({.name = "connections", .bytes = parts.connection_bytes});

  const size_t churning = parts.exchange_bytes + parts.connection_bytes;
  const int64_t longest = LongestRequestBytes(engine.max_context_tokens);
  const int64_t num_places =
      2 * int64_t{engine.scheduler.max_running + engine.max_waiting_requests};
  memory.max_request_bytes = AddRequestsAndProcess(
      budget, {.longest_bytes = longest, .num_places = num_places}, churning, memory.need);
  return memory;
}

}  // namespace orrery
