// The sizes of a model, or of one of its layers, whose weights are made up, and of what is asked of it.
//
//   ASSIGN_OR_RETURN(KernelPreset preset, FindKernelPreset("v3-mini"));
//   preset = LoadOfGpu(preset);              // the same layer under what keeps a GPU busy
#ifndef ORRERY_TOOLS_BENCH_KERNELS_PRESET_H_
#define ORRERY_TOOLS_BENCH_KERNELS_PRESET_H_

#include <string>
#include <vector>

#include "base/dtypes.h"
#include "base/status.h"

namespace orrery {

struct KernelPreset {
  std::string name;
  int hidden = 0;
  int expert_width = 0;
  int num_experts = 0;
  int num_experts_per_token = 0;
  int num_groups = 1;  // of the gate
  int num_kept_groups = 1;
  int q_lora_rank = 0;
  int kv_lora_rank = 0;
  int num_heads = 0;
  int nope_dim = 0;
  int rope_dim = 0;
  int value_dim = 0;
  int vocab_size = 0;                // 0: a layer without a head
  DType projections = DType::kBf16;  // what the projections of attention are stored in

  std::vector<int> expert_rows;      // rows per expert to measure
  bool fp8_products = false;         // experts with products of fp8 activations too; x86 has none
  int experts_per_call = 0;          // 0: as many as 64 rows need, at most num_experts_per_token
  std::vector<int> projection_rows;  // rows of a projection
  std::vector<int> decode_contexts;  // tokens that a decoding row sees
  std::vector<int> decode_batches;   // sequences
  int prefill_rows = 0;              // of a chunk
  int prefill_context = 0;           // tokens up to its end
  // Of norm, gate, encoding, combine: 64 rows, whose results stay in the cache and do not count; or, if true, as many
  // as take their results past it, so that these count as well.
  bool rows_past_cache = false;
};

// Under the load of processor cores. INVALID_ARGUMENT with the names there are.
absl::StatusOr<KernelPreset> FindKernelPreset(const std::string& name);
KernelPreset LoadOfGpu(KernelPreset preset);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_PRESET_H_
