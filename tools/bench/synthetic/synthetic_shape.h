// The sizes of a model whose weights are made up, and the list of its tensors.
//
//   ASSIGN_OR_RETURN(SyntheticShape shape, FindSyntheticShape("v3-mini"));
//   for (const SyntheticTensor& tensor : SyntheticTensors(shape)) ...
//
// DeepSeek-V3's architecture: MLA, dense layers first, then routed experts beside shared ones.
#ifndef ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_SHAPE_H_
#define ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_SHAPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtypes.h"
#include "base/status.h"

namespace orrery {

struct SyntheticShape {
  std::string name;
  DType projections = DType::kBf16;  // or fp8 e4m3 with scales of blocks of 128 x 128
  int hidden = 0;
  int vocab_size = 0;
  int max_positions = 0;
  bool yarn = false;  // DeepSeek-V3's own scaling of positions
  int num_layers = 0;
  int num_dense_layers = 0;
  int dense_width = 0;
  int expert_width = 0;
  int num_experts = 0;
  int num_experts_per_token = 0;
  int num_shared_experts = 0;
  int num_groups = 1;
  int num_kept_groups = 1;
  int num_heads = 0;
  int q_lora_rank = 0;
  int kv_lora_rank = 0;
  int nope_dim = 0;
  int rope_dim = 0;
  int value_dim = 0;
};

// "v3-mini": DeepSeek-V3 made small, with real head sizes: 8 layers, one of them dense, 2.3 B
// parameters in bf16. "r1-layer": one MoE layer of DeepSeek-R1 in full size and FP8, between a small
// embedding and head. INVALID_ARGUMENT with the names there are.
absl::StatusOr<SyntheticShape> FindSyntheticShape(const std::string& name);

// What config.json says.
std::string SyntheticConfig(const SyntheticShape& shape);

// A tensor of uniform noise between two values.
struct SyntheticTensor {
  std::string name;
  DType dtype = DType::kBf16;
  std::vector<int> shape;
  float low = 0;
  float high = 0;

  int64_t num_values() const;
  int64_t num_bytes() const { return num_values() * DTypeBytes(dtype); }
};

// In the order of their files. Noise is scaled so that activations keep their size.
std::vector<SyntheticTensor> SyntheticTensors(const SyntheticShape& shape);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_SHAPE_H_
