#include "tools/bench/kernels/preset.h"

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

// DeepSeek-V3 made small: real head sizes, about 2.3 B parameters in 8 layers, one of them dense.
KernelPreset V3Mini() {
  return {.name = "v3-mini",
          .hidden = 2048,
          .expert_width = 704,
          .num_experts = 64,
          .num_experts_per_token = 6,
          .num_groups = 8,
          .num_kept_groups = 4,
          .q_lora_rank = 768,
          .kv_lora_rank = 512,
          .num_heads = 16,
          .nope_dim = 128,
          .rope_dim = 64,
          .value_dim = 128,
          .vocab_size = 32000,
          .projections = DType::kBf16,
          .expert_rows = {1, 4, 16, 64, 256, 1024},
          .projection_rows = {1, 8, 64, 256},
          .decode_contexts = {1024, 4096},
          .decode_batches = {1, 8},
          .prefill_rows = 256,
          .prefill_context = 2048};
}

// One MoE layer of DeepSeek-R1 in full size; its checkpoint is FP8.
KernelPreset R1Layer() {
  KernelPreset preset = V3Mini();
  preset.name = "r1-layer";
  preset.hidden = 7168;
  preset.expert_width = 2048;
  preset.num_experts = 256;
  preset.num_experts_per_token = 8;
  preset.q_lora_rank = 1536;
  preset.num_heads = 128;
  preset.vocab_size = 0;
  preset.projections = DType::kFp8E4m3;
  return preset;
}

}  // namespace

KernelPreset LoadOfGpu(KernelPreset preset) {
  preset.fp8_products = true;
  preset.experts_per_call = preset.num_experts_per_token;
  preset.projection_rows = {1, 16, 64, 256, 1024};
  preset.decode_contexts = {4096};
  preset.decode_batches = {1, 8, 64};
  preset.prefill_rows = 1024;
  preset.prefill_context = 4096;
  preset.rows_past_cache = true;
  return preset;
}

absl::StatusOr<KernelPreset> FindKernelPreset(const std::string& name) {
  if (name == "v3-mini") return V3Mini();
  if (name == "r1-layer") return R1Layer();
  return absl::InvalidArgumentError(
      absl::StrCat("unknown preset \"", name, "\": want v3-mini or r1-layer"));
}

}  // namespace orrery
