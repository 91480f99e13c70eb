// What a rank takes of its device's memory: counted from config.json before anything is loaded, taken at
// once, or refused with the numbers.
//
//   ASSIGN_OR_RETURN(const RankMemory need, CountRankMemory(config, item_bytes, numerics, limits, kernels));
//   RETURN_IF_ERROR(CheckFits(need, {"cuda:0 NVIDIA ...", *device.memory()}));
//   RETURN_IF_ERROR(device.Reserve(need.total()));
//
// What is counted is what the loading and allocating code itself asks for, run with a loader that only
// lists and a device that only counts.
//
// It is for devices with memory of their own. Threads: any.
#ifndef ORRERY_SERVICES_ATTENTION_RANK_MEMORY_H_
#define ORRERY_SERVICES_ATTENTION_RANK_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "device/device.h"
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

  size_t total() const { return weights + kv_cache + scratch; }
  // "weights 3.21 GB, KV cache 0.94 GB (16384 tokens), scratch 0.31 GB"
  std::string ToString() const;
};

absl::StatusOr<RankMemory> CountRankMemory(const ModelConfig& config, const ItemBytes& item_bytes,
                                           const Numerics& numerics, const RankMemoryLimits& limits,
                                           const Kernels& kernels);

struct DeviceState {
  std::string name;
  MemoryBytes memory;
};
// RESOURCE_EXHAUSTED when that is more than the device has free: what of it, and what to change.
absl::Status CheckFits(const RankMemory& need, const DeviceState& device);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_RANK_MEMORY_H_
