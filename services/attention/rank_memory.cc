#include "services/attention/rank_memory.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "device/counting_device.h"
#include "model/weight_list.h"
#include "services/attention/kv_cache.h"
#include "services/attention/model.h"

namespace orrery {
namespace {

std::string Gigabytes(size_t num_bytes) { return absl::StrFormat("%.2f GB", num_bytes * 1e-9); }

}  // namespace

std::string RankMemory::ToString() const {
  return absl::StrCat("weights ", Gigabytes(weights), ", KV cache ", Gigabytes(kv_cache), " (",
                      kv_tokens, " tokens), scratch ", Gigabytes(scratch));
}

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
  ASSIGN_OR_RETURN(need.weights, WeightBytes(lister.TakeRecords(), item_bytes));
  need.weights += weights.num_bytes();
  RETURN_IF_ERROR(KvCache::Create(model, limits.num_kv_blocks, &cache).status());
  need.kv_cache = cache.num_bytes();
  ASSIGN_OR_RETURN(need.scratch, Step::CountBytes(model, limits.step, kernels));
  return need;
}

absl::Status CheckFits(const RankMemory& need, const DeviceState& device) {
  if (need.total() <= device.memory.free) return absl::OkStatus();
  const size_t per_token = need.kv_tokens > 0 ? need.kv_cache / need.kv_tokens : 0;
  const size_t without_cache = need.weights + need.scratch;
  std::string advice;
  if (without_cache < device.memory.free && per_token > 0) {
    const size_t fitting = (device.memory.free - without_cache) / (per_token * kKvBlockTokens);
    advice = absl::StrCat("limits.kv_cache_bytes of at most ", fitting * kKvBlockTokens * per_token,
                          " (", fitting * kKvBlockTokens, " tokens) would fit");
  } else {
    advice = "no KV cache would fit beside them";
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      device.name, ": this rank needs ", Gigabytes(need.total()), ": ", need.ToString(), "; ",
      Gigabytes(device.memory.free), " of ", Gigabytes(device.memory.total), " are free. ", advice,
      "; ffn_weights and linear_weights (int8, int4) make weights smaller, max_step_rows and "
      "max_running_sequences scratch"));
}

}  // namespace orrery
