// What a rank's model takes of its device's memory: counted from config.json before anything is loaded, and on a
// GPU taken at once, or refused with the numbers.
//
//   ASSIGN_OR_RETURN(const RankMemory need, CountRankMemory(config, item_bytes, numerics, limits, kernels));
//   RETURN_IF_ERROR(CheckFits("this rank", DeviceNeed(need), RoomOf("cuda:0 NVIDIA ...", *device.memory())));
//   RETURN_IF_ERROR(device.Reserve(need.total()));
//
// What is counted is what the loading and allocating code itself asks for, run with a loader that only
// lists and a device that only counts.
//
// Where the device is the host, this is a part of what the process needs (host_memory.h). Threads: any.
#ifndef ORRERY_SERVICES_ATTENTION_RANK_MEMORY_H_
#define ORRERY_SERVICES_ATTENTION_RANK_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "base/memory_need.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "kernels/kernels.h"
#include "model/numerics.h"
#include "model/weight_bytes.h"
#include "services/attention/step.h"

namespace orrery {

struct RankMemoryLimits {
  int max_positions = 0;
  bool with_mtp = false;
  int num_kv_blocks = 0;
  StepOptions step;
};

// Bytes.
struct RankMemory {
  size_t weights = 0;
  size_t kv_cache = 0;
  size_t scratch = 0;  // of steps, kernels and graphs
  int64_t kv_tokens = 0;
  // Of the host's memory, whatever the device: pinned, for steps; and while weights are loaded.
  size_t pinned = 0;
  size_t loading = 0;

  // Of the device's.
  size_t total() const { return weights + kv_cache + scratch; }
};

absl::StatusOr<RankMemory> CountRankMemory(const ModelConfig& config, const ItemBytes& item_bytes,
                                           const Numerics& numerics, const RankMemoryLimits& limits,
                                           const Kernels& kernels);

// The device's parts.
MemoryNeed DeviceNeed(const RankMemory& need);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_RANK_MEMORY_H_
