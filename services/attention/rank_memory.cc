#include "services/attention/rank_memory.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "device/counting_device.h"
#include "model/weight_list.h"
#include "services/attention/kv_cache.h"
#include "services/attention/model.h"

namespace orrery {

absl::StatusOr<RankMemory> CountRankMemory(const ModelConfig& config, const ItemBytes& item_bytes,
                                           const Numerics& numerics, const RankMemoryLimits& limits,
                                           const Kernels& kernels) {
  RankMemory need;
  need.kv_tokens = int64_t{limits.num_kv_blocks} * kKvBlockTokens;
  WeightLister lister;
  CountingDevice weights, cache;
  const ModelOptions options = {
      .numerics = numerics, .max_positions = limits.max_positions, .with_mtp = limits.with_mtp};
  ASSIGN_OR_RETURN(const Model model, LoadModel(lister, config, options, &weights));
  const std::vector<WeightRecord> records = lister.TakeRecords();
  ASSIGN_OR_RETURN(need.weights, WeightBytes(records, item_bytes));
  need.weights += weights.num_bytes();
  need.loading = LoadingBytes(records);
  RETURN_IF_ERROR(KvCache::Create(model, limits.num_kv_blocks, &cache).status());
  need.kv_cache = cache.num_bytes();
  ASSIGN_OR_RETURN(const Step::Bytes step, Step::CountBytes(model, limits.step, kernels));
  need.scratch = step.device;
  need.pinned = step.pinned;
  return need;
}

MemoryNeed DeviceNeed(const RankMemory& need) {
  const size_t per_token = need.kv_tokens > 0 ? need.kv_cache / need.kv_tokens : 0;
  MemoryNeed parts;
  parts.Add({.name = "weights",
             .bytes = need.weights,
             .smaller_by = "ffn_weights and linear_weights (int8, int4)"});
  parts.Add({.name = "KV cache",
             .bytes = need.kv_cache,
             .detail = absl::StrCat(need.kv_tokens, " tokens"),
             .smaller_by = "limits.kv_cache_bytes",
             .unit_bytes = per_token * kKvBlockTokens});
  parts.Add({.name = "scratch",
             .bytes = need.scratch,
             .smaller_by = "limits.max_step_rows and limits.max_running_sequences"});
  return parts;
}

}  // namespace orrery
