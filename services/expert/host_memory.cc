#include "services/expert/host_memory.h"

#include "absl/strings/str_cat.h"
#include "exchange/buffer_bytes.h"
#include "exchange/shm/ring_bytes.h"
#include "rpc/memory_budget.h"

namespace orrery {

MemoryNeed ShardHostNeed(const ShardHostParts& parts) {
  const Shard::Memory& counted = parts.counted;
  MemoryNeed need;
  if (parts.is_on_gpu) {
    need.Add({.name = "CUDA", .bytes = kCudaHostBytes});
  } else {
    need = counted.DeviceNeed();
    need.Add({.name = "experts of other shards",
              .bytes = parts.max_copies * counted.expert,
              .detail = absl::StrCat("at most ", parts.max_copies),
              .smaller_by = "limits.heir_bytes and limits.max_failed_shards"});
  }
  need.Add({.name = "answers", .bytes = counted.host});
  // While one more expert is being loaded, and before another is dropped.
  need.Add({.name = "loading", .bytes = 2 * counted.loading + counted.expert + parts.parsed_bytes});
  const size_t num_lanes = static_cast<size_t>(parts.num_ranks) * kNumLanes;
  const size_t buffers = ShardBufferBytes(parts.exchange, parts.num_ranks);
  need.Add({.name = "exchange",
            .bytes = buffers + num_lanes * 2 * kRingBytes,
            .smaller_by = "limits.max_step_rows"});
  // A frame that arrives and one that leaves, as gRPC has them, beside what its server may hold.
  const size_t connections = kServerBufferBytes + num_lanes * 2 * kMaxFrameBytes;
  need.Add({.name = "connections", .bytes = connections});
  AddProcess(buffers + connections, need);
  return need;
}

}  // namespace orrery
